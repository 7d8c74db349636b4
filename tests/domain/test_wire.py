"""The wire form: what is written is read back, what is malformed is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain import samples
from tests.domain.samples import IDS
from threadlog.engine.domain.commands import COMMANDS, CreateRun, Json, UpdateState
from threadlog.engine.domain.events import EVENTS, ThreadCreated
from threadlog.engine.domain.wire import command_from_wire, event_from_wire, event_to_wire, is_time, to_body


@given(st.sampled_from(sorted(EVENTS)).flatmap(lambda type_: samples.of(EVENTS[type_])))
def test_every_event_survives_the_wire(event: Any) -> None:
    wire = json.loads(json.dumps(event_to_wire(event)))
    assert wire["type"] == event.type
    assert event_from_wire(wire) == event


@given(st.sampled_from(sorted(COMMANDS)).flatmap(lambda type_: samples.of(COMMANDS[type_])))
def test_every_command_survives_the_wire(command: Any) -> None:
    assert command_from_wire(command.type, json.loads(json.dumps(to_body(command)))) == command


def test_what_equals_its_default_is_left_out() -> None:
    assert event_to_wire(ThreadCreated(thread_id=IDS[0])) == {"type": "thread.created", "thread_id": IDS[0]}


def test_defaults_are_not_shared() -> None:
    one, two = (event_from_wire({"type": "thread.created", "thread_id": IDS[0]}) for _ in range(2))
    assert isinstance(one, ThreadCreated) and isinstance(two, ThreadCreated)
    assert one.metadata is not two.metadata


def test_fields_of_a_later_version_are_ignored() -> None:
    wire = {"type": "thread.created", "thread_id": IDS[0], "colour": "blue"}
    assert event_from_wire(wire) == ThreadCreated(thread_id=IDS[0])
    assert command_from_wire("thread.delete", {"thread_id": IDS[0], "colour": "blue"})


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(KeyError):
        event_from_wire({"type": "thread.painted"})
    with pytest.raises(KeyError):
        command_from_wire("thread.paint", {})


RUN: dict[str, Json] = {"thread_id": IDS[0], "run_id": IDS[1], "graph_id": "g", "run": {}}


@pytest.mark.parametrize(
    ("field", "value", "called"),
    [
        ("thread_id", "t1", "a UUID"),
        ("thread_id", 7, "a UUID"),
        ("run_id", None, "a UUID"),
        ("run_id", IDS[1].replace("-", ""), "a UUID"),
        ("graph_id", None, "a string"),
        ("run", [], "an object"),
        ("thread_config", "x", "an object"),
        ("multitask_strategy", "hope", "one of"),
        ("multitask_strategy", ["reject"], "one of"),
        ("due_at", "tomorrow", "a time in UTC"),
        ("due_at", "2026-11-21T10:00:00", "a time in UTC"),
        ("due_at", "2026-11-21T10:00:00+01:00", "a time in UTC"),
        ("temporary", 1, "a boolean"),
        ("stream_from", True, "an integer"),
        ("stream_from", 1.5, "an integer"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(field: str, value: Any, called: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be {called}"):
        command_from_wire("run.create", RUN | {field: value})


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="graph_id"):
        command_from_wire("run.create", {k: v for k, v in RUN.items() if k != "graph_id"})


def test_optional_fields_may_be_null() -> None:
    command = command_from_wire("run.create", RUN | {"due_at": None, "create_thread": None})
    assert command == CreateRun(**RUN)
    update = UpdateState(thread_id=IDS[0], job_id=IDS[1], graph_id="g", supersteps=[])
    assert command_from_wire(update.type, to_body(update) | {"checkpoint": None}) == replace(update, checkpoint=None)


@pytest.mark.parametrize("text", ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123456+00:00"])
def test_times_in_utc(text: str) -> None:
    assert is_time(text)


@pytest.mark.parametrize("text", ["", "now", "2026-13-01T00:00:00Z", "2026-11-21", "2026-11-21T10:00:00-05:00"])
def test_what_is_no_time_in_utc(text: str) -> None:
    assert not is_time(text)
