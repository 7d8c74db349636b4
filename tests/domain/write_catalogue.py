"""Writes docs/reference/events.md and message_versions.jsonl: `python -m tests.domain.write_catalogue`.

The page is made from the dataclasses: the text above each table is the class's docstring; types and defaults are the
field's own; what a field means is in `engine.catalogue.meanings`.

message_versions.jsonl has a line for every version that a command or event ever had, what it promised included
(`engine.catalogue.schemas.fingerprint_of`). Lines are added, never changed: another promise needs another version.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from threadlog.engine.catalogue.schemas import Message, fingerprint_of, meaning_of, text_of
from threadlog.engine.domain.commands import COMMANDS
from threadlog.engine.domain.events import EVENTS

CATALOGUE = Path(__file__).parent.parent.parent / "docs" / "reference" / "events.md"
VERSIONS = Path(__file__).parent / "message_versions.jsonl"
MESSAGES: dict[str, Message] = {
    **{f"command {kind.type}": kind for kind in COMMANDS.values()},
    **{f"event {kind.type}": kind for kind in EVENTS.values()},
}

INTRODUCTION = """\
# Commands and events

What the topics `commands` and `events` hold, for those who read the log or change what is in it. Written from
`engine/domain/commands/` and `engine/domain/events/` by `python -m tests.domain.write_catalogue`; a test compares.

A command travels as `{id, type, key, at, body, actor, trace}` with the fields below in `body`; an event is a flat
object `{"type": …, …fields}` in an event record (ARCHITECTURE.md, "The log"). Fields that equal their default are
left out, fields that a reader does not know are ignored. Ids are UUIDs, times are ISO-8601 in UTC, an object or a
list is JSON.
For programs: `GET /asyncapi.json` returns the same as JSON Schemas in an AsyncAPI 3 document ([audit](../audit.md)). A
message is of version 1.0 unless it says another: the second number counts fields that were added since; an event whose
first number is not 1 has that in its field `v`.
A value reference is described in ARCHITECTURE.md, "Checkpoints".
"""


def default_of(field: Field[object]) -> str:
    if field.default is not MISSING:
        return f"`{json.dumps(field.default)}`"
    if field.default_factory is not MISSING:
        return f"`{json.dumps(field.default_factory())}`"
    return "required"


def type_of(field: Field[object]) -> str:
    text = str(field.type).replace("JsonObject", "object").replace("list[Json]", "list").replace("Json", "any")
    return f"`{text}`".replace("|", "\\|")


def rows(kind: Message) -> list[str]:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(kind):
        lines.append(f"| `{field.name}` | {type_of(field)} | {default_of(field)} | {meaning_of(kind, field.name)} |")
    return lines if len(lines) > 2 else ["No fields."]


def section(kind: Message) -> str:
    lines = [f"### `{kind.type}`", ""]
    if kind.schema_version != "1.0":
        lines += [f"Version {kind.schema_version}.", ""]
    if text := text_of(kind):
        # An indented list would be run together by Markdown: as it stands.
        lines += [re.sub(r"(?m)((?:^ {2,}.*\n?)+)", r"\n```\n\1\n```\n", text).replace("\n\n```\n\n", "\n```\n\n"), ""]
    return "\n".join([*lines, *rows(kind), ""])


def catalogue() -> str:
    parts = [INTRODUCTION, "## Commands\n", *map(section, COMMANDS.values())]
    parts += ["## Events\n", *map(section, EVENTS.values())]
    return "\n".join(parts)


def recorded() -> dict[tuple[str, str], Any]:
    """What each version of each message promised, by its name and version."""
    lines = map(json.loads, VERSIONS.read_text().splitlines() if VERSIONS.exists() else ())
    return {(line["message"], line["version"]): {n: line[n] for n in ("fields", "required")} for line in lines}


def record_versions() -> None:
    """Add a line for each version that has none."""
    known = recorded()
    with VERSIONS.open("a") as file:
        for name, kind in MESSAGES.items():
            if (name, kind.schema_version) not in known:
                line = {"message": name, "version": kind.schema_version, **fingerprint_of(kind)}
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    record_versions()
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    CATALOGUE.write_text(catalogue())
