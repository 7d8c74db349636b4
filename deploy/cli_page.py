"""Reference page of the command line, docs/reference/cli.md: `python -m threadlog.deploy.cli_page` prints it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from threadlog.deploy.cli import main

_INTRODUCTION = """# Command line

Look up what `threadlog` can be told. Each command shows the same with `--help`. An option wins over its variable, and
the `env` of `langgraph.json` over the environment.

Commands that look into the log or the read models find the server of this folder, or of `--data-dir`; with
`DATABASE_URI` (and `KAFKA_BOOTSTRAP_SERVERS`) set, that one. Settings that have no option are
[environment variables](../settings.md).

| exit code | |
|---|---|
| 0 | done; of `verify`, `rerun`, `migrate --check` and `health`: all is well |
| 1 | it failed, or found what it looked for: a difference, a problem |
| 2 | there is no such command, option or value |
| 78 | it can't run with these settings, this `langgraph.json` or these arguments; trying again will not help |
"""
_ANNOTATION = re.compile(r"\s*\[(env var|default): ([^\]]*)\]")


def page() -> str:
    """The page, with every command and option that is not hidden."""
    commands = {name: command for name, command in sorted(main.commands.items()) if not command.hidden}
    index = [f"| [`{name}`](#threadlog-{name}) | {_sentences(command)[0]} |" for name, command in commands.items()]
    text = [_INTRODUCTION, "| command | |", "|---|---|", *index]
    for name, command in commands.items():
        text += ["", f"## threadlog {name}", "", *_described(name, command)]
    return "\n".join(text) + "\n"


def _described(name: str, command: click.Command) -> Iterator[str]:
    yield "\n\n".join(_sentences(command))
    yield ""
    context = click.Context(command, info_name=f"threadlog {name}")
    yield f"`threadlog {name} {' '.join(command.collect_usage_pieces(context))}`"
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        yield ""
        yield "| option | variable | |"
        yield "|---|---|---|"
        for option in options:
            yield _row(option)


def _sentences(command: click.Command) -> list[str]:
    """The paragraphs of a command's help, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help or "").split("\n\n")]


def _row(option: click.Option) -> str:
    said = dict(_ANNOTATION.findall(option.help or ""))
    variable = said.get("env var") or (option.envvar if isinstance(option.envvar, str) else None)
    help = _ANNOTATION.sub("", option.help or "").strip()
    default = said.get("default") or (str(option.default) if option.show_default else None)
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(click.Context(main))}`"
    meaning = f"{help} Default: {default}." if default else help
    cells = (f"{names}{value}", f"`{variable}`" if variable else "", meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(page(), end="")
