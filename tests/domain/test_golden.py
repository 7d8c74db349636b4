"""Logs written by earlier versions are read as they were: commands and events are known, states are the same."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import COMMANDS
from threadlog.engine.domain.decider import EMPTY, States
from threadlog.engine.domain.events import EVENTS
from threadlog.engine.domain.wire import command_from_wire, event_from_wire, event_to_wire, to_body
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.records import CommandEnvelope, EventRecord

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.rglob("*.jsonl"))
BEFORE_TTL = ("0.1", "0.2", "0.3", "0.4", "0.5")
"""The log had a field for it, which no api filled and no state remembered."""
BEFORE_CRON_GROUP = ("0.4",)
"""Of a run in flight it was not known whether a cron had asked for it."""
BEFORE_LAST_FIRING = ("0.11",)
"""Crons did not remember the time of their last firing."""
COMMAND_FILES = sorted((Path(__file__).parent / "golden_commands").glob("*.jsonl"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_golden_log_folds_to_the_states_it_had(file: Path) -> None:
    *values, last = file.read_bytes().splitlines()
    rule = Acceptance()
    states: dict[str, States] = {}
    for value in values:
        record = EventRecord.decode(value)
        if rule.accepts(record):
            events = [event_from_wire(wire) for wire in record.events]
            assert [event_to_wire(event) for event in events] == record.events
            before = states.get(record.key, EMPTY)
            states[record.key] = decider.fold(before, record.key, record.cmd_id, record.at, events)
    assert rule.cmd_off == len(values) - 2, "every record but the announcement counts"
    stored = orjson.loads(last)["states"]
    if file.parent.name in BEFORE_TTL:
        for key, state in states.items():
            if "thread" in state:
                states[key] = {**state, "thread": state["thread"]._replace(ttl=None, idle_since=None)}
    if file.parent.name in BEFORE_CRON_GROUP:
        for key, state in states.items():
            if "thread" in state and (slot := state["thread"].slot) is not None:
                states[key] = {**state, "thread": state["thread"]._replace(slot=slot._replace(cron=False))}
    if file.parent.name in BEFORE_LAST_FIRING:
        for key, state in states.items():
            if "cron" in state:
                states[key] = {**state, "cron": state["cron"]._replace(fired=None)}
    assert {key: decider.dump(state) for key, state in states.items()} == stored
    assert {key: decider.load(key, state) for key, state in stored.items()} == states


def test_every_event_type_is_in_a_golden_log() -> None:
    seen = {
        event["type"]
        for file in FILES
        for value in file.read_bytes().splitlines()[:-1]
        for event in orjson.loads(value)["events"]
    }
    assert seen == set(EVENTS)


@pytest.mark.parametrize("file", COMMAND_FILES, ids=lambda file: file.stem)
def test_a_golden_command_is_read_as_it_was(file: Path) -> None:
    for value in file.read_bytes().splitlines():
        envelope = CommandEnvelope.decode(value)
        command = command_from_wire(envelope.type, envelope.body)
        assert to_body(command) == envelope.body
        assert decider.key_of(command) == envelope.key


def test_every_command_type_is_in_a_golden_file() -> None:
    seen = {orjson.loads(value)["type"] for file in COMMAND_FILES for value in file.read_bytes().splitlines()}
    assert seen == set(COMMANDS)
