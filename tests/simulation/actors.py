"""Those who act: the owner of a partition (a term with its I/O), executors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.simulation import store
from tests.simulation.simulated_world import Partition, SimulatedWorld, iso, unappendable, unprojectable
from threadlog.engine.domain.commands import Command, ExpireLease, ExpireThread, ReportRun, ReportWebhook, RunDue
from threadlog.engine.domain.webhooks import waits
from threadlog.engine.log.port import OffsetGone, RecordRefused
from threadlog.engine.log.records import EventRecord, RefusedEnvelope
from threadlog.engine.processor.ports import Batch, Fenced, Unprojectable
from threadlog.engine.processor.term import Term

LEASE = 8.0
"""Seconds without renewal after which an executor counts as gone."""


class Owner:
    """One term of one partition, driven the way the processor does it, with everything on the way made unreliable.

    `postgres`: the log is in the database: append and projection are one transaction. Otherwise appends are on the wire
    (`wire`), are acknowledged later or never, and the projection is a transaction of its own (`transaction`).
    """

    def __init__(self, world: SimulatedWorld, p: Partition, *, postgres: bool, max_keys: int) -> None:
        self.world, self.p, self.postgres = world, p, postgres
        self.alive, self.paused = True, False
        self.term = Term(p.take(), at=iso(world.now), max_keys=max_keys)
        self.announced: int | None = None
        self.wire: deque[EventRecord] = deque()
        self.acks: deque[tuple[int, EventRecord]] = deque()
        self.transaction: Batch | None = None
        self.settled = False
        self.pieces = 0
        self.pieces_of = 100  # records at most in one projection; 1: event by event
        self.fired: set[str] = set()
        self.posted: dict[str, ReportWebhook] = {}
        world.note(f"T{p.number} epoch {self.term.epoch} takes over from ({p.ev_off}, {p.cmd_off})")
        if postgres:
            self.announced = world.append_event(p, self.term.announcement)
        else:
            self.wire.append(self.term.announcement)

    def die(self, why: str) -> None:
        if self.alive:
            self.world.note(f"T{self.p.number} epoch {self.term.epoch} is over: {why}")
        self.alive = False
        self.term.fail()

    # --- what the network does, whether the owner lives or not -------------------------------------------------------

    def deliver(self, *, faults: bool) -> None:
        """The oldest append on the wire arrives, perhaps unnoticed; or it fails, perhaps only seemingly."""
        if not self.wire:
            return
        world = self.world
        if faults and world.fault(0.04):  # fails for good; what was sent after it may land all the same
            lost = self.wire.popleft()
            world.note(f"E{self.p.number} lost the append of {lost.cmd_off}, epoch {lost.epoch}")
            self._failed()
            return
        if faults and self.alive and world.fault(0.03):  # reported unknown, still on its way
            self._failed()
            return
        record = self.wire[0]
        try:
            offset = world.append_event(self.p, record)
        except RecordRefused:
            # What its process remembers. What was sent after it may land all the same, and does not count.
            self.wire.popleft()
            self.p.refused.add(record.cmd_off)
            return self._failed()
        if faults and world.fault(0.08):
            return  # the ack is lost: the client sends the same bytes again
        self.wire.popleft()
        self.acks.append((offset, record))

    def _failed(self) -> None:
        if self.alive:
            self.die("an append failed or is unknown")

    def commit(self, *, faults: bool) -> None:
        """The transaction in flight runs; its answer may get lost."""
        batch, self.transaction = self.transaction, None
        if batch is None:
            return
        if faults and self.world.fault(0.03):
            self.die("the projection was rolled back")
            return
        try:
            done = self.world.project(batch, singly=self.pieces_of == 1)
        except Unprojectable:
            if not self.world.walled:
                return self.die("the projection failed")
            if self.alive:  # in smaller pieces, until the one is found
                self.pieces_of = max(1, batch.length // 2)
            return
        if not self.alive:
            return
        self.pieces_of = min(100, 2 * self.pieces_of)
        if not done:
            self.die("fenced")
        elif faults and self.world.fault(0.03):
            self.die("the projection's answer got lost")
        else:
            self.term.projected(batch)

    # --- what the owner does -----------------------------------------------------------------------------------------

    def step(self, *, faults: bool) -> None:
        if not self.alive or self.paused:
            return
        try:
            self._step(faults)
        except Fenced:
            self.die("a newer term was seen")
        except OffsetGone as error:
            self.die(str(error))

    def _step(self, faults: bool) -> None:
        term, world = self.term, self.world
        while self.acks:
            offset, record = self.acks.popleft()
            if record.start:
                self.announced = offset
            else:
                term.acked(offset, record)
        if not term.ready and not term.needed():
            return self._read_back()
        if term.needed():
            key = world.random.choice(term.needed())
            term.provide(key, self.p.tables.aggregates.get(key))
            return
        x = world.random.random()
        if self.postgres:
            if x < 0.7 and self.transaction is None:
                self._transact(faults)
        elif x < 0.55:
            self.wire.extend(self._decide())
        elif x < 0.8 and self.transaction is None:
            self.transaction = term.batch(min(self.pieces_of, world.random.choice((1, 2, 5, 100))))
        if x >= 0.8:
            self._effects()

    def _read_back(self) -> None:
        """A few records on, or a piece of what has been read is projected, with the rest of the take-over to come."""
        term, world = self.term, self.world
        if self.transaction is not None or self.announced is None:
            return
        if world.in_pieces and term.unprojected and world.chance(0.6):
            self.transaction = term.batch(min(self.pieces_of, world.random.choice((1, 2, 5, 100))))
            self.pieces += self.transaction is not None
            return
        for offset, record in self.p.events_from(term.read_from, self.announced):
            if term.read_back(offset, record):
                break

    def _decide(self) -> list[EventRecord]:
        """The next few commands."""
        term, world, records = self.term, self.world, []
        for _ in range(world.random.choice((1, 1, 2, 5))):
            command = self.p.next_command(term.decided)
            if command is None:
                break
            offset, envelope = command
            for key in term.missing([envelope.key]):
                term.provide(key, self.p.tables.aggregates.get(key))
            term.recognise(id for id in term.doubted([envelope]) if id in self.p.tables.keyed.commands)
            if offset in self.p.refused and type(envelope) is not RefusedEnvelope:
                envelope = RefusedEnvelope.instead_of(envelope, "it can't be stored")
            record = term.decide(offset, envelope)
            assert record is not None
            if not world.walled and any(
                e["type"] == "command.rejected" and e["code"] == "invalid" for e in record.events
            ):
                self.die("a command failed")  # as an engine without refusals: its terms begin anew, and read it again
                break
            records.append(record)
        return records

    def _transact(self, faults: bool) -> None:
        """Append and project in one transaction: all or nothing, and nothing without the epoch."""
        world, p = self.world, self.p
        records = self._decide() if self.settled or world.poisoner is None else []
        if world.guarded and p.epoch != self.term.epoch:
            return self.die("fenced")
        if faults and records and self.settled and world.fault(0.1):
            return self.term.retract()  # another partition's part of the transaction failed: decide anew
        if not self.alive:
            return None
        poison = [record for record in records if any(unappendable(e) or unprojectable(e) for e in record.events)]
        if poison:
            # The transaction is rolled back, and tried command by command: those whose own fails are refused.
            p.refused |= {record.cmd_off for record in poison}
            if not world.walled:
                return self.die("the transaction failed")
            return self.term.retract()
        for record in records:
            self.term.acked(world.append_event(p, record), record)
        batch = self.term.batch(10_000)
        if batch is None:
            return None
        world.project(batch)
        self.settled = True
        if faults and world.fault(0.03):
            return self.die("the transaction's answer got lost")
        self.term.projected(batch)

    def _effects(self) -> None:
        """What the partition's owner sends by itself, with ids that make sending twice harmless."""
        world, tables = self.world, self.p.tables
        for run_id, timer in tables.timers.items():
            if timer["due_at"] <= iso(world.now):
                self._fire(f"due:{run_id}", RunDue(thread_id=timer["thread_id"], run_id=run_id))
        for run_id, row in tables.queue.items():
            if row.get("elsewhere"):
                continue
            owner = world.claims.get((run_id, row["attempt"]))
            if (owner is None and row["cancel"]) or (owner is not None and world.leases[owner] < world.now):
                expire = ExpireLease(
                    thread_id=row["thread_id"], run_id=run_id, attempt=row["attempt"], executor=owner or ""
                )
                self._fire(f"lease:{run_id}:{row['attempt']}", expire)
        # A sweep tells again what it still finds: an earlier command may have come too early.
        for thread_id, over_at in tables.expired(world.now):
            if world.sweeper is not None and world.sweeper.random() < 0.3:
                skew = world.sweeper.uniform(-1, 1)
                world.send(self, ExpireThread(thread_id=thread_id), id=f"ttl:{thread_id}:{over_at}", skew=skew)

        for id, sweep in store.sweeps(tables.items, iso(world.now)):
            self._fire(id, sweep)
        for run_id, row in list(tables.webhooks.items()):
            if self.alive and not row.get("elsewhere") and row["due_at"] <= iso(world.now):
                self._deliver_webhook(run_id, row)
        for id, wanted in world.crons_want(self.p):
            self._fire(id, wanted)

    def _deliver_webhook(self, run_id: str, row: dict[str, Any]) -> None:
        """What was sent once is not sent again by this owner: its report is.

        Before it sends, it looks where the row is whether the partition is its own, and whether its announcement is
        projected: what its predecessors have recorded is in the read models from then on. What it has decided itself,
        it knows.
        """
        world = self.world
        id = f"webhook:{run_id}:{row['attempt']}"
        if id not in self.posted:
            assert world.receivers is not None
            known = self.term.known(row["thread_id"])
            mine = self.p.epoch == self.p.log_epoch == self.term.epoch
            if world.receivers.owned and not (mine and (known is None or waits(known, run_id, row["attempt"]))):
                return
            retry_at = iso(world.now + 5)
            self.posted[id] = world.receivers.post(self.p, row["thread_id"], run_id, row["attempt"], retry_at)
            if world.receivers.crash():
                return self.die("crash between a POST and its report")
        self._fire(id, self.posted[id])

    def _fire(self, id: str, command: Command) -> None:
        if id not in self.fired or self.world.chance(0.02):
            self.fired.add(id)
            self.world.send(self, command, id=id, skew=self.world.random.uniform(-1, 1))


@dataclass
class Task:
    """An attempt as its executor knows it."""

    run_id: str
    thread_id: str
    attempt: int
    kind: str
    steps: int = 0


class Executor:
    """Claims scheduled attempts and reports them. Paused for longer than its lease it comes back as a zombie."""

    def __init__(self, world: SimulatedWorld, name: str) -> None:
        self.world, self.name = world, name
        self.alive, self.paused = True, False
        self.tasks: list[Task] = []
        self.skew = world.random.uniform(-2, 2)

    def step(self, *, faults: bool) -> None:
        world = self.world
        if not self.alive or self.paused:
            return
        world.leases[self.name] = world.now + LEASE
        if self.tasks and (len(self.tasks) > 2 or world.chance(0.7)):
            self._work(world.random.choice(self.tasks), faults)
        else:
            self._claim()

    def _claim(self) -> None:
        free = [
            (run_id, row)
            for p in self.world.partitions
            for run_id, row in p.tables.queue.items()
            if row["cancel"] is None and (run_id, row["attempt"]) not in self.world.claims
        ]
        if free:
            run_id, row = self.world.random.choice(free)
            self.world.claims[run_id, row["attempt"]] = self.name
            self.tasks.append(Task(run_id, row["thread_id"], row["attempt"], row["kind"]))
            self.world.note(f"{self.name} claims {run_id} attempt {row['attempt']}")

    def _work(self, task: Task, faults: bool) -> None:
        world = self.world
        row = world.partition(task.thread_id).tables.queue.get(task.run_id)
        current = row is not None and row["attempt"] == task.attempt
        if not current and world.chance(0.5):
            self.tasks.remove(task)  # has noticed; otherwise it goes on as a zombie
            return
        x = world.random.random()
        outcome: dict[str, Any] | None = None
        if current and row is not None and row["cancel"] and world.chance(0.6):
            outcome = {"status": "interrupted", "next": world.random.choice(([], ["n"]))}
        elif x < 0.1 + 0.1 * task.steps:
            outcome = self._outcome(faults)
        items: list[dict[str, Any]] = []
        for _ in range(world.random.choice((0, 1, 1, 2))):
            checkpoint_id = f"cp{world.next_id()}"
            if world.chance(0.2):
                migrated = {"kind": "migrated", "graph_id": "g", "from_version": 1, "to_version": 2}
                items.append({**migrated, "checkpoint_id": "of an earlier version"})
            items.append({"kind": "checkpoint", "checkpoint_id": checkpoint_id})
            items.append({"kind": "tasks", "checkpoint_id": checkpoint_id, "tasks": [{"id": "n"}]})
        started = {"executor": self.name, "at": iso(world.now)} if not task.steps else None
        task.steps += 1
        report = ReportRun(
            thread_id=task.thread_id,
            run_id=task.run_id,
            attempt=task.attempt,
            started=started,
            items=items,
            outcome=outcome,
        )
        world.send(self, report, skew=self.skew)
        if outcome is not None:
            self.tasks.remove(task)

    def _outcome(self, faults: bool) -> dict[str, Any]:
        x = self.world.random.random()
        if x < 0.6:
            return {"status": "success", "frames": 3, "usage": {"model": {"calls": 1, "total_tokens": 5}}}
        if x < 0.7:
            return {"status": "success", "next": ["n"], "interrupts": {"t": [{"id": "i", "value": 1}]}}
        if x < 0.8 or not faults:
            return {"status": "error", "error": {"error": "ValueError", "message": "kaboom"}}
        if x < 0.85:
            return {"status": "timeout", "error": {"error": "TimeoutError", "message": ""}}
        return {"status": "released" if x < 0.95 else "interrupted"}
