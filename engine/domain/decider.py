"""The deciders by name, and the state kept under one key: decided upon, folded, stored. All pure.

Live and rebuilt state are the same by construction: both come from `fold`, which sees what an event record holds
(command id, time, events) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from threadlog.engine.domain import (
    assistant,
    attempt_decisions,
    cron,
    graph,
    history,
    keyed_request,
    store_namespace,
    thread,
    thread_decisions,
)
from threadlog.engine.domain.commands import (
    ASSISTANT_COMMANDS,
    CRON_COMMANDS,
    GRAPH_COMMANDS,
    HISTORY_COMMANDS,
    REQUEST_COMMANDS,
    RUN_COMMANDS,
    STORE_COMMANDS,
    THREAD_COMMANDS,
    WEBHOOK_COMMANDS,
    Command,
    ReportRun,
)
from threadlog.engine.domain.events import (
    ANSWERS,
    ASSISTANT_EVENTS,
    CHECKPOINT_EVENTS,
    CRON_EVENTS,
    GRAPH_EVENTS,
    HISTORY_EVENTS,
    REQUEST_EVENTS,
    RUN_EVENTS,
    STORE_EVENTS,
    THREAD_EVENTS,
    WEBHOOK_EVENTS,
    CheckpointSaved,
    CheckpointsDeleted,
    CommandRejected,
    Event,
    RunReleased,
    StateMigrated,
    ThreadPruned,
    WritesSaved,
)
from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.domain.text import storable
from threadlog.engine.domain.wire import event_from_wire, is_time

RECENT_COMMANDS = 8
"""How many command ids an aggregate remembers, to recognise a sender's retry."""

RECENT_KEYED = 64
"""How many ids of such commands an aggregate remembers besides: clients send these again after long. Who decides looks
older ones up (`may_forget`): the read model `keyed_commands` has all."""

States = Mapping[str, Any]
"""What is kept under one key: the state of each aggregate that has one, by the aggregate's name. Treated as immutable.

Usually there is one; a client may give a thread and an assistant the same id."""

EMPTY: States = {}

# Characters of a refusal: of a command's type, which may be anything, and of all of it.
_TYPE_SHOWN = 100
_REASON_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Decider:
    """One aggregate: `decide(state, command, cmd_id=, at=) -> events`, `evolve(state, event, at) -> state`,
    `initial(key)`, `dump(state)`, `load(key, stored)`, and `key_of(command)`. `commands` and `events` are its own.
    A state is a `NamedTuple` with the field `recent`: the ids of its last commands."""

    name: str
    commands: tuple[type[Command], ...]
    events: tuple[type[Event], ...]
    initial: Callable[[str], Any]
    decide: Callable[..., list[Event]]
    evolve: Callable[[Any, Event, Any], Any]
    dump: Callable[[Any], dict[str, Any]]
    load: Callable[[str, dict[str, Any]], Any]
    key_of: Callable[[Any], str]


THREAD = Decider(
    "thread", (*THREAD_COMMANDS, *RUN_COMMANDS, *WEBHOOK_COMMANDS),
    (*THREAD_EVENTS, *RUN_EVENTS, *CHECKPOINT_EVENTS, *WEBHOOK_EVENTS),
    thread.initial, thread_decisions.decide, thread.evolve, thread.dump, thread.load, lambda c: c.thread_id,
)  # fmt: skip
ASSISTANT = Decider(
    "assistant", ASSISTANT_COMMANDS, ASSISTANT_EVENTS,
    assistant.initial, assistant.decide, assistant.evolve, assistant.dump, assistant.load, lambda c: c.assistant_id,
)  # fmt: skip
GRAPH = Decider(
    "graph", GRAPH_COMMANDS, GRAPH_EVENTS,
    graph.initial, graph.decide, graph.evolve, graph.dump, graph.load, lambda c: graph.PREFIX + c.graph_id,
)  # fmt: skip
STORE = Decider(
    "store", STORE_COMMANDS, STORE_EVENTS,
    store_namespace.initial, store_namespace.decide, store_namespace.evolve, store_namespace.dump, store_namespace.load,
    lambda c: store_namespace.key_of_namespace(c.namespace),
)  # fmt: skip

CRON = Decider(
    "cron", CRON_COMMANDS, CRON_EVENTS,
    cron.initial, cron.decide, cron.evolve, cron.dump, cron.load, lambda c: cron.PREFIX + c.cron_id,
)  # fmt: skip

REQUEST = Decider(
    "request", REQUEST_COMMANDS, REQUEST_EVENTS,
    keyed_request.initial, keyed_request.decide, keyed_request.evolve, keyed_request.dump, keyed_request.load,
    lambda c: keyed_request.PREFIX + c.request_id,
)  # fmt: skip

HISTORY = Decider(
    history.NAME, HISTORY_COMMANDS, HISTORY_EVENTS,
    history.initial, history.decide, history.evolve_imported, history.dump, history.load, lambda c: c.key,
)  # fmt: skip
"""Of what is imported. Beside another aggregate, whose events it decides: it sees all that is kept under the key."""

DECIDERS = (THREAD, ASSISTANT, GRAPH, STORE, CRON, REQUEST, HISTORY)

_BY_NAME = {d.name: d for d in DECIDERS}
_BY_COMMAND = {c.type: d for d in DECIDERS for c in d.commands}
_BY_EVENT = {e: d for d in DECIDERS for e in d.events}
_SILENT = frozenset(e.type for e in ANSWERS)
_TRACELESS = _SILENT | {e.type for e in (RunReleased, WritesSaved, ThreadPruned, CheckpointsDeleted, StateMigrated)}
_SAVED = CheckpointSaved(thread_id="", checkpoint_id="")  # that there is one is all that is kept of it


def aggregate_of(command_type: str) -> Decider:
    """The decider of a command, by its type on the wire. Raises `KeyError`: the type is unknown."""
    return _BY_COMMAND[command_type]


def key_of(command: Command) -> str:
    """The key of the aggregate a command is for."""
    return aggregate_of(command.type).key_of(command)


def decide(states: States, key: str, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """Decide a command on what is kept under its key."""
    decider = aggregate_of(command.type)
    if decider is HISTORY:
        return history.decide(states, key, command, _key_of_event, at=at)
    if HISTORY.name in states and history.is_open(states):
        return [CommandRejected(code="conflict", detail=history.BEING_IMPORTED)]
    state = states.get(decider.name)
    return decider.decide(decider.initial(key) if state is None else state, command, cmd_id=cmd_id, at=at)


def _key_of_event(event: Event) -> str:
    return _BY_EVENT[type(event)].key_of(event)


def refuse(states: States, key: str, type_: str, body: Mapping[str, Any], reason: str, *, at: str) -> list[Event]:
    """The events of a command that can't be decided, or whose events can't be stored.

    The report of the attempt in flight ends its run: its executor has said what it has to say, and nobody else would.
    """
    detail = f"{type_[:_TYPE_SHOWN]}: {reason}" if type_ else reason
    if len(detail) > _REASON_SHOWN:
        detail = detail[:_REASON_SHOWN] + "…"
    detail = storable(detail)
    if type_ == ReportRun.type and body.get("thread_id") == key and is_time(at):
        state = None if history.is_open(states) else states.get(THREAD.name)
        if state is not None and (ended := attempt_decisions.end_of(state, body, detail)) is not None:
            return ended
    return [CommandRejected(code="invalid", detail=detail)]


def fold(states: States, key: str, cmd_id: str, at: str, events: Iterable[Event]) -> States:
    """What is kept under a key after an accepted event record of it; the very same object if nothing changed.

    A record that only refuses is not remembered: the sender's retry is decided anew.
    """
    decider: Decider | None = None
    state: Any = None
    imported: Event | None = None
    for event in events:
        if isinstance(event, ANSWERS):
            continue
        if decider is None:
            if isinstance(event, HISTORY_EVENTS):  # the first one is this installation's
                imported = imported or event
                continue
            decider = _BY_EVENT[type(event)]
            state = states.get(decider.name)
            if state is None:
                state = decider.initial(key)
        state = decider.evolve(state, event, at)
    if decider is None and imported is None:
        return states
    after = {**states}
    if decider is not None:
        after[decider.name] = state._replace(recent=_remembered(state.recent, cmd_id))
    if imported is not None:
        before = states.get(HISTORY.name) or HISTORY.initial(key)
        after[HISTORY.name] = HISTORY.evolve(before, imported, decider is not None)
    elif (before := states.get(HISTORY.name)) is not None and not before.continued:
        after[HISTORY.name] = before._replace(continued=True)
    return after


def _remembered(recent: tuple[str, ...], cmd_id: str) -> tuple[str, ...]:
    """The ids with this one: first the last ones of keyed requests, then the last ones of others."""
    keyed = cmd_id.startswith(KEYED)
    if not keyed and not (recent and recent[0].startswith(KEYED)):
        return (*recent[1 - RECENT_COMMANDS :], cmd_id)
    first = next((n for n, known in enumerate(recent) if not known.startswith(KEYED)), len(recent))
    if keyed:
        return (*recent[:first][1 - RECENT_KEYED :], cmd_id, *recent[first:])
    return (*recent[:first], *recent[first:][1 - RECENT_COMMANDS :], cmd_id)


def may_forget(states: States, more: int) -> bool:
    """Whether an aggregate under this key has had so many commands of keyed requests, `more` included, that it does not
    remember all of them."""
    return any(more + sum(id.startswith(KEYED) for id in state.recent) > RECENT_KEYED for state in states.values())


def fold_wire(states: States, key: str, cmd_id: str, at: str, wire: Iterable[dict[str, Any]]) -> States:
    """`fold` of events as they are on the wire: what no state depends on is not even made an object.

    Raises:
        KeyError: the type of an event is unknown.
    """
    events: list[Event] = []
    traceless = None
    for one in wire:
        kind = one["type"]
        if kind == CheckpointSaved.type:
            events.append(_SAVED)
        elif kind not in _TRACELESS:
            events.append(event_from_wire(one))
        elif kind not in _SILENT:
            traceless = one
    # The command is remembered all the same.
    if traceless is not None and (not events or type(events[-1]) in HISTORY_EVENTS):
        events.append(event_from_wire(traceless))
    return fold(states, key, cmd_id, at, events)


def dump(states: States) -> dict[str, Any]:
    """A small JSON object: `{aggregate name: state}`."""
    return {name: _BY_NAME[name].dump(state) for name, state in states.items()}


def load(key: str, stored: Mapping[str, Any] | None) -> States:
    """What `dump` wrote; None is an unknown key."""
    if not stored:
        return EMPTY
    return {name: _BY_NAME[name].load(key, state) for name, state in stored.items()}
