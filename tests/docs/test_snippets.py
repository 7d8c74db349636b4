"""Every block of code of every page is run, in the order of the page, against a real server.

On Kafka, too, where the page starts no server of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.docs.pages import NOTATION, REASONS, ROOT, BadPage, asks_a_server, pages, parts, starts_servers
from tests.docs.reader import Reader
from tests.js.test_smoke import FOLDER as JAVASCRIPT
from tests.js.test_smoke import install
from threadlog.deploy.cli import main as threadlog

NOTHING_TO_RUN = {"diff", "mermaid"}


def _cases() -> Iterator[object]:
    for page in pages():
        named = str(page.relative_to(ROOT)).removeprefix("docs/").removesuffix(".md")
        try:
            run = [part for part in parts(page) if part.not_run is None and part.kind not in NOTHING_TO_RUN]
        except BadPage:  # which its own test reports
            yield pytest.param("embedded", page, id=named)
            continue
        if not run:
            continue
        yield pytest.param("embedded", page, id=named)
        if asks_a_server(page) and not starts_servers(page):
            yield pytest.param("kafka", page, id=f"{named}-kafka", marks=pytest.mark.kafka)


@pytest.mark.timeout(400)
@pytest.mark.server
@pytest.mark.parametrize(("mode", "page"), list(_cases()), indirect=["mode"])
async def test_what_a_page_says_works(mode: str, page: Path, request: pytest.FixtureRequest) -> None:
    reader = Reader(lambda: install(JAVASCRIPT))
    try:
        if not starts_servers(page):
            await reader.meet(request.getfixturevalue("docs_server"))
        await reader.follow(parts(page))
    finally:
        await reader.close()


def test_what_is_not_run_says_why() -> None:
    """Each of the few reasons is in use, and most blocks are run."""
    blocks = [part for page in pages() for part in parts(page) if part.kind != "run"]
    notation = [part for part in blocks if f"{part.page.relative_to(ROOT)} {part.kind}" in NOTATION]
    skipped = [part for part in blocks if part.not_run is not None and part not in notation]
    assert {part.not_run for part in skipped} == REASONS.keys()
    assert len(skipped) < (len(blocks) - len(notation)) / 4, [part.place for part in skipped]


def _inline_commands() -> Iterator[tuple[str, list[str]]]:
    """`threadlog …` in the text of pages and in their blocks, with where it stands."""
    for page in pages():
        for code in re.findall(r"`(threadlog [a-z]+(?: [^`]*)?)`", page.read_text()):
            yield f"{page.name}: {code}", code.split()[1:]
        for part in parts(page):
            if part.kind in ("sh", "bash", "console", ""):
                for line in re.findall(r"^(?:\$ )?(?:\w+=\S* )*(threadlog [a-z][^|#<>\n]*)", part.text, re.M):
                    yield f"{part.place}: {line}", line.split()[1:]


def test_commands_and_options_that_pages_name_are_there() -> None:
    wrong = []
    assert isinstance(threadlog, click.Group)
    for where, (name, *arguments) in _inline_commands():
        command = threadlog.commands.get(name.rstrip(",.:;"))
        if command is None:
            wrong.append(where)
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"--help", "-h"}
        if command.context_settings.get("ignore_unknown_options"):
            continue
        wrong += [where for word in arguments if re.match(r"-{1,2}[a-z]", word) and word.split("=")[0] not in options]
    assert wrong == []
