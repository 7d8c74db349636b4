"""The unreliable surroundings: log, network, database. Time is a number of seconds that the scenario moves on."""

from __future__ import annotations

import json
import random
import sys
from bisect import bisect_right
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tests.simulation import crons, keyed, store
from tests.simulation.webhooks import Receivers
from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.decider import key_of
from threadlog.engine.domain.keyed_request import KEYED
from threadlog.engine.log.port import OffsetGone, Record, RecordRefused, Topic
from threadlog.engine.log.records import CommandEnvelope, EventRecord, partition_of
from threadlog.engine.log.unreadable import event_in
from threadlog.engine.processor.ports import Batch, Position, Unprojectable
from threadlog.engine.processor.term import envelope_of

PARTITIONS = 2
START = datetime(2026, 1, 1, tzinfo=UTC)
FINAL = {
    "run.succeeded": "success",
    "run.failed": "error",
    "run.timed_out": "timeout",
    "run.interrupted": "interrupted",
}
ACTIVITY = {
    "thread.updated", "thread.status_changed", "run.created", "checkpoint.saved", "state.updated", "state.update_failed"
}  # fmt: skip
"""What restarts the clock of a thread's ttl."""
DEEP: Any = []
for _ in range(260):
    DEEP = [DEEP]
REPEAT_WINDOW = 6
"""A sender repeats itself before this many other commands of its aggregate: what the deciders promise to notice."""


def iso(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def uid(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012d}"


def unappendable(event: dict[str, Any]) -> bool:
    """Whether the log takes no record with this event."""
    return bool(event.get("metadata", {}).get("poison") == "append")


def unprojectable(event: dict[str, Any]) -> bool:
    """Whether the read models can't take this event."""
    return bool(event.get("metadata", {}).get("poison") == "project")


class Poisoner:
    """Makes commands of which one stage has to fail: decode, decide, encode, append, project."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.made = 0
        self.unreadable = 0

    def due(self) -> bool:
        return self.random.random() < 0.02

    def command(self, p: Partition, at: str) -> bytes:
        self.made += 1
        return self.random.choice((self.garbage, self.wrong, self.endless_report, self.marked, self.marked))(p, at)

    def garbage(self, p: Partition, at: str) -> bytes:
        """Not a command, or not understood as one."""
        return self.random.choice((
            b"\xff\x00", b"[]", b"7", b'{"id": 1}', b"[" * 2000, b'{"id": "\\ud800"}', b"", b'{"id": NaN}',
            orjson.dumps({"id": "i", "type": "no.such", "key": uid(0), "at": at, "body": {}}),
            orjson.dumps({"id": "i" * 9999, "type": "thread.update", "key": uid(0), "at": at, "body": {}}),
            orjson.dumps({"id": "i", "type": "thread.update", "key": self._elsewhere(p), "at": at,
                          "body": {"thread_id": self._elsewhere(p)}}),
        ))  # fmt: skip

    def wrong(self, p: Partition, at: str) -> bytes:
        """Understood, but what it says is of the wrong kind."""
        thread_id = self._here(p)
        return self._envelope("run.create", thread_id, at, self.random.choice((
            {"thread_id": thread_id}, {"thread_id": thread_id, "run_id": 2**64 - 1, "graph_id": "g", "run": {}},
            {"thread_id": thread_id, "run_id": uid(9), "graph_id": "g" * 3000, "run": {}},
            {"thread_id": thread_id, "run_id": uid(9), "graph_id": "g", "run": {}, "due_at": "soon"},
        )))  # fmt: skip

    def endless_report(self, p: Partition, at: str) -> bytes:
        """A report of an attempt in flight, if there is one, that can't be decided or written."""
        row = self.random.choice(list(p.tables.queue.items()) or [(uid(9), {"thread_id": self._here(p), "attempt": 1})])
        run_id, queued = row
        deep: Any = []
        for _ in range(500):
            deep = [deep]
        said = self.random.choice((
            {"outcome": {"status": "odd"}}, {"items": [7]}, {"outcome": {"status": "error", "error": {"error": deep}}},
        ))  # fmt: skip
        body = {"thread_id": queued["thread_id"], "run_id": run_id, "attempt": queued["attempt"], **said}
        return self._envelope("run.report", queued["thread_id"], at, body)

    def marked(self, p: Partition, at: str) -> bytes:
        """In order until it is written, appended or projected."""
        thread_id = self._here(p)
        metadata = self.random.choice(({"poison": "append"}, {"poison": "project"}, {"deep": DEEP}))
        return self._envelope("thread.update", thread_id, at, {"thread_id": thread_id, "metadata": metadata})

    def _envelope(self, type_: str, key: str, at: str, body: dict[str, Any]) -> bytes:
        # Not by orjson: it reads what is deeper than it writes.
        said = {"id": f"poison{self.made}", "type": type_, "key": key, "at": at, "body": body}
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)
        try:
            return json.dumps(said).encode()
        finally:
            sys.setrecursionlimit(limit)

    def event(self, p: Partition) -> bytes:
        """Not an event record, or not understood as one; most are much like the last one."""
        self.unreadable += 1
        last = next((value for offset, value in reversed(p.events) if p.read_event(offset, value)), b"{}")
        said = orjson.loads(last)
        odd = self.random.choice((
            {"epoch": 2**70}, {"epoch": f"{p.epoch + 9}"}, {"epoch": None}, {"epoch": True}, {"cmd_off": 0.5},
            {"cmd_off": None}, {"after": "x"}, {"key": 7}, {"cmd_id": []}, {"at": None}, {"start": 1}, {"events": None},
            {"events": {}}, {"events": [7]}, {"events": [{}]}, {"events": [{"type": 1}]},
        ))  # fmt: skip
        return self.random.choice((
            b"", b"\xff\x00", b"[]", b"7", b"null", b'{"epoch": 9}', b"[" * 2000, b'{"epoch": NaN}', b"\x01zstd?",
            last[:-1], last[1:], last + last, json.dumps(said | odd).encode(), json.dumps(said | odd).encode(),
        ))  # fmt: skip

    def _here(self, p: Partition) -> str:
        mine = [key for key in map(uid, range(5)) if partition_of(key, PARTITIONS) == p.number]
        return self.random.choice(mine)

    def _elsewhere(self, p: Partition) -> str:
        return next(key for key in map(uid, range(99)) if partition_of(key, PARTITIONS) != p.number)


@dataclass
class Tables:
    """The read models, as far as the protocol needs them. Each record's effect is a function of the record alone."""

    threads: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    queue: dict[str, dict[str, Any]] = field(default_factory=dict)
    timers: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    items: store.Items = field(default_factory=dict)
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    crons: crons.CronTables = field(default_factory=crons.CronTables)
    keyed: keyed.KeyedTables = field(default_factory=keyed.KeyedTables)
    aggregates: dict[str, Any] = field(default_factory=dict)
    ttls: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: bool = True
    """Whether nothing follows from imported events."""

    def expired(self, now: float) -> list[tuple[str, str]]:
        """Threads to sweep, and when their time was over."""
        found = []
        for thread_id, row in self.ttls.items():
            if row["ttl"] is None or self.threads[thread_id]["status"] == "busy":
                continue
            over = datetime.fromisoformat(row["since"]) + timedelta(minutes=row["ttl"]["ttl"])
            if over <= START + timedelta(seconds=now) and (row["swept"] is None or row["swept"] < row["since"]):
                found.append((thread_id, over.isoformat()))
        return found

    def apply(self, record: EventRecord, *, without: Callable[[dict[str, Any]], bool] = lambda event: False) -> None:
        self.crons.decided(record)
        self.keyed.decided(record, without)
        for e in record.events:
            if without(e):
                continue
            self._apply(record, e)
            if record.imported and self.silent:
                self._without_effects(e)

    def _without_effects(self, e: dict[str, Any]) -> None:
        """Of an event that happened in another installation."""
        run_id: str = e.get("run_id") or e.get("job_id") or ""
        match e["type"]:
            case "run.created":
                self.timers.pop(run_id, None)
            case "run.scheduled":
                self.queue[run_id] |= {"cancel": "interrupt", "elsewhere": True}
            case "webhook.requested":
                self.webhooks[run_id] |= {"elsewhere": True}
            case "cron.created" | "cron.updated" | "cron.fired":
                self.crons.crons[e["cron_id"]]["next"] = None
                if (firing := (e["cron_id"], e.get("due_at", ""))) in self.crons.firings:
                    self.crons.firings[firing] = e | {"elsewhere": True}

    def _apply(self, record: EventRecord, e: dict[str, Any]) -> None:
        thread_id: str = e.get("thread_id", "")
        run_id: str = e.get("run_id") or e.get("job_id") or ""
        if e["type"] in ACTIVITY and thread_id in self.ttls:
            self.ttls[thread_id]["since"] = record.at
        match e["type"]:
            case "thread.created":
                self.threads[thread_id] = {"status": e.get("status", "idle"), "error": e.get("error")}
                self.checkpoints[thread_id] = []
                self.ttls[thread_id] = {"ttl": e.get("ttl"), "since": record.at, "swept": None}
            case "thread.deleted":
                del self.threads[thread_id], self.checkpoints[thread_id], self.ttls[thread_id]
                for table in (self.runs, self.queue, self.timers):
                    for k in [k for k, row in table.items() if row["thread_id"] == thread_id]:
                        del table[k]
            case "thread.status_changed":
                self.threads[thread_id] = {"status": e["status"], "error": e.get("error")}
            case "thread.updated":
                self.threads[thread_id]["metadata"] = e["metadata"]
                self.ttls[thread_id]["ttl"] = e.get("ttl") or self.ttls[thread_id]["ttl"]
            case "thread.expired":
                self.ttls[thread_id]["swept"] = record.at
            case "run.created":
                assert run_id not in self.runs, f"I10: run {run_id} was created twice"
                self.runs[run_id] = {"thread_id": thread_id, "status": "pending", "attempt": 0}
                if e.get("due_at"):
                    self.timers[run_id] = {"thread_id": thread_id, "due_at": e["due_at"]}
            case "run.scheduled":
                others = [k for k, row in self.queue.items() if row["thread_id"] == thread_id]
                assert not others, f"I6: {run_id} is scheduled while {others} hold the thread"
                self.timers.pop(run_id, None)
                row = {"thread_id": thread_id, "attempt": e["attempt"], "kind": e.get("kind", "run")}
                self.queue[run_id] = row | {"cancel": None, "fresh": e.get("fresh", False)}
                assert not (e.get("fresh") and self.checkpoints[thread_id]), "I8: fresh although there are checkpoints"
                if run_id in self.runs:
                    self.runs[run_id]["attempt"] = e["attempt"]
            case "run.started":
                self._status(run_id, "running")
            case "run.succeeded" | "run.failed" | "run.timed_out" as type_:
                self._status(run_id, FINAL[type_])
                self.queue.pop(run_id, None)
            case "run.interrupted":
                self._status(run_id, "interrupted")
                self._stop(e, "interrupt")
            case "run.rolled_back" | "run.deleted" as type_:
                self.runs.pop(run_id, None)
                saved = self.checkpoints[thread_id]
                self.checkpoints[thread_id] = [c for c in saved if c[1] != run_id]
                self._stop(e, "rollback" if type_ == "run.rolled_back" else "delete")
            case "run.stopped" | "run.released" | "run.lease_expired" | "state.updated" | "state.update_failed":
                self.queue.pop(run_id, None)
            case "webhook.requested":
                assert run_id not in self.webhooks, f"I15: the webhook of {run_id} is due twice"
                self.webhooks[run_id] = {"thread_id": thread_id, "attempt": 1, "due_at": record.at}
            case "webhook.failed":
                self.webhooks[run_id] |= {"attempt": e["attempt"] + 1, "due_at": e["due_at"]}
            case "webhook.delivered" | "webhook.dead":
                del self.webhooks[run_id]
            case "checkpoint.saved":
                self.checkpoints[thread_id].append((e["checkpoint_id"], e.get("run_id")))
            case "thread.pruned":
                self.checkpoints[thread_id] = self.checkpoints[thread_id][-1:]
            case type_ if type_.startswith("cron."):
                self.crons.apply(e)
            case type_ if type_.startswith("store."):
                store.apply(self.items, record.at, e)

    def _status(self, run_id: str, status: str) -> None:
        row = self.runs[run_id]
        assert row["status"] in ("pending", "running"), f"I11: {run_id} is {row['status']}, then {status}"
        row["status"] = status

    def _stop(self, e: dict[str, Any], how: str) -> None:
        if e.get("stopping"):
            self.queue[e["run_id"]]["cancel"] = how
        else:
            self.timers.pop(e["run_id"], None)


@dataclass
class Partition:
    """One partition: its commands and events, and its part of the database (the row and the read models)."""

    number: int
    commands: list[tuple[int, CommandEnvelope]] = field(default_factory=list)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    trimmed: int = -1
    epoch: int = 0
    log_epoch: int = 0
    ev_off: int = -1
    cmd_off: int = -1
    tables: Tables = field(default_factory=Tables)
    applied: list[tuple[int, int]] = field(default_factory=list)
    skips: list[int] = field(default_factory=list)
    """Commands, by offset, of which the read models could not take an event. (Not by the offset of the event record: an
    append that was repeated is there twice, and its term knows the second place.)"""
    refused: set[int] = field(default_factory=set)
    """Offsets of commands whose event records were refused, as the engines remember them."""

    def take(self) -> Position:
        """`UPDATE partitions SET epoch = epoch + 1 … RETURNING`."""
        self.epoch += 1
        return Position(self.number, self.epoch, self.log_epoch, self.ev_off, self.cmd_off)

    def next_command(self, after: int) -> tuple[int, CommandEnvelope] | None:
        """The first command above an offset. Raises OffsetGone when some above it are trimmed."""
        if self.trimmed > after:
            raise OffsetGone(Topic.COMMANDS, self.number, after + 1, self.trimmed + 1)
        i = bisect_right(self.commands, after, key=lambda c: c[0])
        return self.commands[i] if i < len(self.commands) else None

    def events_from(self, start: int, end: int) -> list[tuple[int, EventRecord | None]]:
        i = bisect_right(self.events, start - 1, key=lambda r: r[0])
        return [(offset, self.read_event(offset, value)) for offset, value in self.events[i : i + 4] if offset <= end]

    def read_event(self, offset: int, value: bytes) -> EventRecord | None:
        """As every reader does."""
        return event_in(Record(Topic.EVENTS, self.number, offset, "", value, 0))


class SimulatedWorld:
    """`guarded=False` takes the epoch out of the projection's guard, `chained=False` the predecessor out of the
    records, `walled=False` the refusals, `owned=False` the look at the partition's owner before a POST: the controls,
    which have to fail. `poisoned`: some commands are poison, the store, crons and idempotency keys are used; `hooked`:
    some runs have webhooks; `expiring`: some threads have a ttl. `silent_imports=False`: what follows from events
    follows from imported ones, too, a control."""

    def __init__(
        self,
        seed: int,
        *,
        guarded: bool = True,
        chained: bool = True,
        poisoned: bool = True,
        walled: bool = True,
        hooked: bool = True,
        owned: bool = True,
        expiring: bool = True,
        silent_imports: bool = True,
    ) -> None:
        self.random = random.Random(seed)
        # Of its own, so that a seed is the same with and without poison up to what the poison does.
        self.poisoner = Poisoner(random.Random(f"poison {seed}")) if poisoned else None
        self.store_clients = store.StoreClients(random.Random(f"store {seed}")) if poisoned else None
        self.receivers = Receivers(random.Random(f"webhooks {seed}"), owned) if hooked else None
        self.sweeper = random.Random(f"sweep {seed}") if expiring else None
        self.cron_clients = crons.CronClients(random.Random(f"crons {seed}")) if poisoned else None
        self.keyed_clients = keyed.KeyedClients(random.Random(f"keyed {seed}")) if poisoned else None
        self.walled = walled
        self.guarded, self.chained = guarded, chained
        self.in_pieces = seed // 2 % 2 == 1  # take-overs; without drawing, so that older seeds stay what they were
        self.harshness = self.random.choice((0.1, 0.3, 1.0))
        self.now = 0.0
        self.partitions = [Partition(n, tables=Tables(silent=silent_imports)) for n in range(PARTITIONS)]
        self.leases: dict[str, float] = {}
        self.claims: dict[tuple[str, int], str] = {}
        self.command_net: list[tuple[Any, CommandEnvelope]] = []
        self.sent: list[CommandEnvelope] = []
        self.ids = 0
        self.trace: Callable[[str], None] | None = None

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def fault(self, probability: float) -> bool:
        """Some worlds are kinder than others: in the kind ones more gets done between two faults."""
        return self.random.random() < probability * self.harshness

    def ttl(self) -> dict[str, Any] | None:
        """Of a thread that a client creates or updates: some expire, in seconds or in minutes."""
        if self.sweeper is None or self.sweeper.random() < 0.5:
            return None
        return {
            "strategy": self.sweeper.choice(("delete", "keep_latest")), "ttl": self.sweeper.choice((0.02, 0.05, 0.3))
        }  # fmt: skip

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def note(self, text: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now:7.1f} {text}")

    def partition(self, key: str) -> Partition:
        return self.partitions[partition_of(key, PARTITIONS)]

    # --- commands ----------------------------------------------------------------------------------------------------

    def send(self, sender: Any, command: Command, *, id: str | None = None, skew: float = 0.0) -> None:
        """A command on its way into the log; those of one sender keep their order."""
        id = id or f"c{self.next_id()}"
        envelope = CommandEnvelope.of(
            command, id=id, key=key_of(command), at=iso(self.now + skew), trace=f"of {id}" if len(id) % 2 else None,
            actor=f"user:{id}" if len(id) % 3 else None,
        )  # fmt: skip
        self.command_net.append((sender, envelope))
        self.sent.append(envelope)

    def use_store(self) -> None:
        """Perhaps a client writes or reads items."""
        if self.store_clients is not None and (command := self.store_clients.command()) is not None:
            self.send(None, command, skew=self.store_clients.random.uniform(-1, 1))

    def use_crons(self) -> None:
        """Perhaps a client makes, changes or deletes a cron."""
        if self.cron_clients is not None:
            if self.cron_clients.random.random() < 0.02:  # an owner that has long been taken over from repeats itself
                runs = [envelope for envelope in self.sent if envelope.id.endswith(":run")]
                if runs:
                    envelope = self.cron_clients.random.choice(runs)
                    self.command_net.append((envelope.id, envelope))
            crons_now = [p.tables.crons.crons for p in self.partitions]
            if (command := self.cron_clients.command(START + timedelta(seconds=self.now), crons_now)) is not None:
                self.send(None, command, skew=self.cron_clients.random.uniform(-1, 1))

    def use_keys(self) -> None:
        """Perhaps an api goes on with a request that has an idempotency key."""
        if self.keyed_clients is not None:
            tables = [p.tables.keyed for p in self.partitions]
            for id, command in self.keyed_clients.step(tables, START + timedelta(seconds=self.now)):
                self.send(None, command, id=id)

    def crons_want(self, p: Partition) -> list[crons.Sent]:
        """What the owner of this partition has to send for its crons."""
        if self.cron_clients is None:
            return []
        outcomes = ChainMap(*(other.tables.crons.outcomes for other in self.partitions))
        return list(
            crons.sent_by_owner(p.tables.crons, outcomes, self.cron_clients, START + timedelta(seconds=self.now))
        )

    def send_again(self) -> None:
        """A sender that did not hear back repeats a command."""
        envelope = self.random.choice(self.sent[-10:])
        self.command_net.append((envelope.id, envelope))

    def _too_late(self, envelope: CommandEnvelope) -> bool:
        """Whether this is a repetition after more commands of its aggregate than deciders remember."""
        if envelope.type in ("history.import", "history.close", "thread.expire"):
            return False  # known by their place in the log they come from; refused for long
        if envelope.id.startswith(("cron:", KEYED)):
            return False  # of keys deciders remember more; crons and threads their last time, whatever follows
        later, since_the_first = 0, None
        for _, other in reversed(self.partition(envelope.key).commands):
            if other.id == envelope.id:
                since_the_first = later
            later += other.key == envelope.key
        return since_the_first is not None and since_the_first >= REPEAT_WINDOW

    def deliver_command(self) -> None:
        if not self.command_net:
            return
        sender = self.random.choice(self.command_net)[0]
        i = next(k for k, (other, _) in enumerate(self.command_net) if other is sender or other == sender)
        _, envelope = self.command_net.pop(i)
        p = self.partition(envelope.key)
        if self._too_late(envelope):
            return
        offset = p.commands[-1][0] + self.random.choice((1, 1, 1, 3)) if p.commands else 0
        self._append_command(p, offset, envelope.encode())

    def _append_command(self, p: Partition, offset: int, value: bytes) -> None:
        envelope = envelope_of(value, "key of a record", (p.number, PARTITIONS))
        p.commands.append((offset, envelope))
        said = envelope.body if len(value) < 500 else f"{len(value)} bytes"  # what is deep has no repr
        self.note(f"C{p.number}[{offset}] {envelope.type} {envelope.id} {said}")

    def poison(self) -> None:
        """Somebody appends a command of which one stage has to fail."""
        if self.poisoner is None or not self.poisoner.due():
            return
        p = self.poisoner.random.choice(self.partitions)
        value = self.poisoner.command(p, iso(self.now))
        self._append_command(p, p.commands[-1][0] + 1 if p.commands else 0, value)

    def poison_events(self) -> None:
        """Somebody appends to `events` what is not an event record."""
        if self.poisoner is None or not self.poisoner.due():
            return
        p = self.poisoner.random.choice(self.partitions)
        value = self.poisoner.event(p)
        offset = p.events[-1][0] + 1 if p.events else 0
        p.events.append((offset, value))
        self.note(f"E{p.number}[{offset}] is no event record: {value[:60]!r}")

    def trim(self, p: Partition) -> None:
        """Retention: commands that are decided and projected may go at any time."""
        p.trimmed = max(p.trimmed, p.cmd_off)

    # --- events and their projection ---------------------------------------------------------------------------------

    def append_event(self, p: Partition, record: EventRecord) -> int:
        if any(map(unappendable, record.events)):
            raise RecordRefused(f"the record of {record.cmd_off} is too large")
        offset = p.events[-1][0] + self.random.choice((1, 1, 1, 2)) if p.events else 0
        if not self.chained:
            record = replace(record, after=None)
        p.events.append((offset, record.encode()))
        said = "start" if record.start else f"{record.cmd_off} {[e['type'] for e in record.events]}"
        self.note(f"E{p.number}[{offset}] epoch {record.epoch} {said}")
        return offset

    def project(self, batch: Batch, *, singly: bool = False) -> bool:
        """The guarded transaction; False when a newer term owns the partition. `singly`: event by event, without those
        that the read models can't take; otherwise these raise `Unprojectable`."""
        p = self.partitions[batch.partition]
        if self.guarded:
            if p.epoch != batch.epoch:
                return False
            assert p.ev_off < batch.ev_off, f"I2: the position would go back, {p.ev_off} to {batch.ev_off}"
        new = [accepted for accepted in batch.records if accepted.offset > p.ev_off]
        bad = [accepted.record.cmd_off for accepted in new if any(map(unprojectable, accepted.record.events))]
        if bad and not singly:
            raise Unprojectable(f"the read models can't take {bad}")
        p.skips += bad
        for accepted in new:
            p.tables.apply(accepted.record, without=unprojectable)
            p.applied.append((accepted.record.epoch, accepted.record.cmd_off))
            if accepted.state is not None:
                p.tables.aggregates[accepted.record.key] = accepted.state
        p.ev_off, p.cmd_off, p.log_epoch = batch.ev_off, batch.cmd_off, batch.log_epoch
        self.note(f"P{p.number} projected to {p.ev_off} (command {p.cmd_off}) by epoch {batch.epoch}")
        return True
