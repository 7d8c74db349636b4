"""The catalogue of messages: its page, their versions, their JSON Schemas and the AsyncAPI document."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain import samples
from tests.domain.test_golden import COMMAND_FILES, FILES
from tests.domain.write_catalogue import CATALOGUE, MESSAGES, catalogue, recorded
from threadlog.engine.catalogue.asyncapi import asyncapi
from threadlog.engine.catalogue.meanings import MEANINGS
from threadlog.engine.catalogue.schemas import Message, fingerprint_of, schema_of
from threadlog.engine.domain import upcasting, wire
from threadlog.engine.domain.commands import COMMANDS
from threadlog.engine.domain.events import EVENTS
from threadlog.engine.domain.events.base import Event
from threadlog.engine.log.records import EventRecord

AGAIN = "after a change: another schema_version, then python -m tests.domain.write_catalogue"


def test_the_catalogue_is_current() -> None:
    """Else: python -m tests.domain.write_catalogue."""
    assert CATALOGUE.read_text() == catalogue()


def test_no_meaning_is_left_of_a_field_that_is_gone() -> None:
    messages: list[Any] = [*COMMANDS.values(), *EVENTS.values()]
    names = {name for kind in messages for f in fields(kind) for name in (f.name, f"{kind.type}.{f.name}")}
    assert set(MEANINGS) <= names


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_what_its_version_promises(name: str) -> None:
    promised = recorded().get((name, MESSAGES[name].schema_version))
    assert promised is not None, AGAIN
    assert fingerprint_of(MESSAGES[name]) == promised, AGAIN


def _missing_upcasters(versions: Any, upcasters: Any) -> list[str]:
    """What today's readers could not read of these versions, nor an upcaster make readable."""
    problems = []
    for (name, version), before in versions.items():
        topic, _, type_ = name.partition(" ")
        kind = MESSAGES.get(name)
        if kind is None:
            problems.append(f"{name} is gone, {version} of it is in logs")
            continue
        major, present = int(version.partition(".")[0]), int(kind.schema_version.partition(".")[0])
        if topic == "command" and present != 1:
            problems.append(f"{name}: a command that can't be read as before has another type")
        problems += [
            f"{name}: no upcaster from {number}" for number in range(major, present) if (type_, number) not in upcasters
        ]
        if major == present and (difference := _not_only_added(before, fingerprint_of(kind))):
            problems.append(f"{name} {version}: {difference}, so {kind.schema_version} has to be {present + 1}.0")
    return problems


def _not_only_added(before: Any, after: Any) -> str | None:
    for field, shape in before["fields"].items():
        now = after["fields"].get(field)
        if now is None:
            return f"{field} is gone"
        more_values = "enum" in shape and "enum" in now and {*shape["enum"]} <= {*now["enum"]}
        if now != shape and now != {} and not more_values:
            return f"{field} has another type"
    if added := set(after["required"]) - set(before["required"]):
        return f"{', '.join(sorted(added))} has no default"
    return None


def test_every_version_that_ever_was_can_be_read() -> None:
    assert _missing_upcasters(recorded(), upcasting.UPCASTERS) == []


def test_a_change_that_is_no_addition_needs_an_upcaster() -> None:
    text, number = {"type": "string"}, {"type": "integer"}
    before = {"fields": {"a": text}, "required": ["a"]}
    assert _not_only_added(before, {"fields": {"a": text, "b": number}, "required": ["a"]}) is None
    assert _not_only_added(before, {"fields": {"a": text, "b": number}, "required": ["a", "b"]}) == "b has no default"
    assert _not_only_added(before, {"fields": {"a": number}, "required": ["a"]}) == "a has another type"
    assert _not_only_added(before, {"fields": {"b": text}, "required": []}) == "a is gone"
    past = {("event thread.deleted", "0.9"): fingerprint_of(MESSAGES["event thread.deleted"])}
    assert _missing_upcasters(past, {}) == ["event thread.deleted: no upcaster from 0"]
    assert _missing_upcasters(past, {("thread.deleted", 0): dict}) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class LampLit(Event):
    """An event in its third format: once it was `{lamp}`, then `{lamp, watts}`."""

    type: ClassVar[str] = "lamp.lit"
    schema_version: ClassVar[str] = "3.0"
    lamp_id: str
    milliwatts: int = 0


def test_readers_get_events_of_earlier_formats_in_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENTS, LampLit.type, LampLit)
    monkeypatch.setitem(wire._MAJORS, LampLit.type, 3)
    monkeypatch.setitem(
        upcasting.UPCASTERS, (LampLit.type, 1), lambda e: {"type": e["type"], "v": 2, "lamp": e["lamp"], "watts": 0}
    )
    monkeypatch.setitem(
        upcasting.UPCASTERS,
        (LampLit.type, 2),
        lambda e: {"type": e["type"], "v": 3, "lamp_id": e["lamp"], "milliwatts": 1000 * e["watts"]},
    )
    now = LampLit(lamp_id="x", milliwatts=5000)
    events = [
        {"type": LampLit.type, "lamp": "x"},
        {"type": LampLit.type, "v": 2, "lamp": "x", "watts": 5},
        wire.event_to_wire(now),
        {"type": "thread.deleted", "thread_id": "t"},
    ]
    written = EventRecord(1, 0, "c", "k", "2026-01-01T00:00:00+00:00", events).encode()
    read = EventRecord.decode(written)
    assert [wire.event_from_wire(event) for event in read.events[:3]] == [LampLit(lamp_id="x"), now, now]
    assert read.events[2:] == events[2:]


def test_no_field_is_called_as_the_version_is_on_the_wire() -> None:
    assert [name for name, kind in MESSAGES.items() if {"v", "type"} & {f.name for f in fields(kind)}] == []


@cache
def _validator(kind: Message) -> jsonschema.Draft202012Validator:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _golden() -> Iterator[tuple[Message, Any]]:
    for file in FILES:
        for line in file.read_bytes().splitlines()[:-1]:
            yield from ((EVENTS[event["type"]], event) for event in orjson.loads(line)["events"])
    for file in COMMAND_FILES:
        for line in file.read_bytes().splitlines():
            envelope = orjson.loads(line)
            yield COMMANDS[envelope["type"]], envelope["body"]


def test_what_earlier_versions_wrote_is_as_the_schemas_say() -> None:
    count = 0
    for kind, message in _golden():
        _validator(kind).validate(message)
        count += 1
    assert count > 100


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_message_is_as_its_schema_says(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(MESSAGES.items())))[1]
    message = data.draw(samples.of(kind))
    body = wire.event_to_wire(message) if isinstance(message, Event) else wire.to_body(message)
    _validator(kind).validate(body)


def test_a_schema_refuses_what_the_log_refuses() -> None:
    validator = _validator(MESSAGES["command thread.create"])
    assert validator.is_valid({"thread_id": samples.IDS[0], "if_exists": "raise"})
    for wrong in ({}, {"thread_id": 5}, {"thread_id": samples.IDS[0], "if_exists": "sometimes"}):
        assert not validator.is_valid(wrong)


def test_the_asyncapi_document_is_one() -> None:
    """By the schema of AsyncAPI 3.0.0 (tests/domain/asyncapi)."""
    schema = json.loads(lzma.decompress((Path(__file__).parent / "asyncapi" / "3.0.0.json.xz").read_bytes()))
    document = json.loads(orjson.dumps(asyncapi("1.2.3", 16)))
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message[:300] for error in validator.iter_errors(document)] == []
    document["channels"]["events"]["bindings"]["kafka"]["partitions"] = "many"
    assert not validator.is_valid(document)


def test_every_message_is_in_the_asyncapi_document() -> None:
    document = asyncapi("1.2.3", 16)
    in_events = document["components"]["messages"]["eventRecord"]["payload"]["properties"]["events"]["items"]["anyOf"]
    assert {item["$ref"].rpartition("/")[2] for item in in_events} == set(EVENTS)
    assert {f"command.{type_}" for type_ in COMMANDS} == set(document["channels"]["commands"]["messages"])
    assert set(_references(document)) <= set(_places(document))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _references(part)


def _places(document: Any) -> Iterator[str]:
    for group, members in (
        ("channels", document["channels"]),
        *((f"components/{n}", m) for n, m in document["components"].items()),
    ):
        yield from (f"#/{group}/{name}" for name in members)
