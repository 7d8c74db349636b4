"""Imports in the simulation: a second world takes over what the first one's log holds, through owners that crash and
appends that are lost, by importers that are killed and begin anew, two at a time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from tests.simulation import checks, crons
from tests.simulation.actors import Owner
from tests.simulation.scenario import Scenario
from tests.simulation.simulated_world import START, SimulatedWorld, Tables, iso, uid
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import CloseImport, CreateThread, ImportHistory, UpdateThread
from threadlog.engine.domain.cron import PREFIX as CRON_PREFIX
from threadlog.engine.domain.decider import EMPTY, States
from threadlog.engine.ids import fired_run_id
from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.records import CommandEnvelope, EventRecord

SOURCE = "the first world"
THREADS = 5
STEPS = 500


@dataclass(frozen=True)
class Exported:
    """An event record of the first world, and where it is."""

    partition: int
    offset: int
    record: EventRecord


@dataclass(frozen=True)
class ImportOutcome:
    """What a seed amounted to."""

    records: int
    restarts: int
    ended: int
    """Runs that were in flight when they were exported."""
    refused: int
    """Aggregates with a history of their own."""
    went_on: int
    """Commands that imported threads took afterwards."""


def exported(world: SimulatedWorld) -> list[Exported]:
    """All that counts of the first world's log."""
    found = []
    for p in world.partitions:
        rule = Acceptance()
        for offset, value in p.events:
            record = p.read_event(offset, value)
            if rule.accepts(record):
                found.append(Exported(p.number, offset, record))
    return found


class Importer:
    """One process of the operator: sends what was exported, a batch at a time, then closes what it has opened."""

    def __init__(self, scenario: ImportScenario) -> None:
        self._scenario = scenario
        self._steps = self._work()
        self.done = False

    def step(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            self.done = True

    def _work(self) -> Iterator[None]:
        scenario = self._scenario
        refused: set[str] = set()
        lines = iter(scenario.exported)
        while batch := list(islice(lines, scenario.random.choice((1, 5, 20)))):
            batch = [line for line in batch if line.record.key not in refused]
            sent = self._send(batch)
            if scenario.random.random() < 0.2:  # the append failed: some of it is in the log, some is not; so all again
                for envelope in sent:
                    if scenario.random.random() < 0.5:
                        scenario.lose(envelope)
                yield
                sent = self._send(batch)
            for envelope in sent:
                while (events := scenario.decided(envelope)) is None:
                    yield
                if events[0]["type"] == "command.rejected":
                    refused.add(envelope.key)
        yield from self._close()

    def _send(self, batch: list[Exported]) -> list[CommandEnvelope]:
        before: dict[str, int] = {}
        sent = []
        for line in batch:
            sent.append(self._scenario.send_import(self, line, before.get(line.record.key)))
            before[line.record.key] = line.offset
        return sent

    def _close(self) -> Iterator[None]:
        scenario = self._scenario
        for p in scenario.world.partitions:
            for key, state in list(p.tables.aggregates.items()):
                if not state.get("history", {}).get("open"):
                    continue
                command = CloseImport(key=key, source=SOURCE, **scenario.cron_goes_on(key, state))
                envelope = scenario.send(self, command, key=key)
                while scenario.decided(envelope) is None:
                    yield


class ImportScenario(Scenario):
    """The second world: owners, executors, importers, and clients that use what is there."""

    def __init__(self, seed: int, lines: list[Exported], *, silent: bool = True, chained: bool = True) -> None:
        world = SimulatedWorld(seed + 1_000_000, poisoned=False, hooked=True, expiring=True, silent_imports=silent)
        world.cron_clients = crons.CronClients(random.Random(f"crons of the second world {seed}"))
        world.ids = 1_000_000  # other ids than the first world's
        world.use_crons = lambda: None  # type: ignore[method-assign]  # nobody makes some here
        self.random = random.Random(f"imports {seed}")
        self.exported = lines
        self.chained = chained
        self.importers: list[Importer] = []
        self.restarts = 0
        self._known: dict[str, list[dict[str, Any]]] = {}
        self._numbers = 0
        super().__init__(world)
        of_crons = {e["thread_id"] for line in lines for e in line.record.events if "cron_due_at" in e}
        if self.random.random() < 0.5 and (own := uid(self.random.randrange(THREADS))) not in of_crons:
            world.send(None, CreateThread(thread_id=own, metadata={"own": True}))
            while world.command_net:
                world.deliver_command()

    # --- importers ---------------------------------------------------------------------------------------------------

    def send_import(self, importer: Importer, line: Exported, after: int | None) -> CommandEnvelope:
        record = line.record
        command = ImportHistory(
            key=record.key, source=SOURCE, partition=line.partition, offset=line.offset,
            imported_at=iso(self.world.now), imported_by="operator", after=after if self.chained else None,
            events=record.events,
        )  # fmt: skip
        return self._sent(importer, CommandEnvelope.of(
            command, id=record.cmd_id, key=record.key, at=record.at, actor=record.actor
        ))  # fmt: skip

    def send(self, importer: Importer, command: CloseImport, *, key: str) -> CommandEnvelope:
        self._numbers += 1
        id = f"close {self._numbers}"
        return self._sent(
            importer, CommandEnvelope.of(command, id=id, key=key, at=iso(self.world.now), actor="operator")
        )

    def _sent(self, importer: Importer, envelope: CommandEnvelope) -> CommandEnvelope:
        self.world.command_net.append((importer, envelope))
        return envelope

    def lose(self, envelope: CommandEnvelope) -> None:
        self.world.command_net = [(who, other) for who, other in self.world.command_net if other is not envelope]

    def decided(self, envelope: CommandEnvelope) -> list[dict[str, Any]] | None:
        """What the command was decided to, once that is projected."""
        p = self.world.partition(envelope.key)
        offset = next((offset for offset, other in reversed(p.commands) if other == envelope), None)
        if offset is None or offset > p.cmd_off:
            return None
        return next((record.events for record in checks.accepted(p) if record.cmd_off == offset), None)

    def cron_goes_on(self, key: str, state: dict[str, Any]) -> dict[str, Any]:
        cron = state.get("cron", {})
        if not cron.get("version"):
            return {}
        due = None
        if cron.get("next_due_at"):
            due = (START + timedelta(seconds=self.world.now + 5)).isoformat(timespec="microseconds")
        ran = False
        if (pending := cron.get("pending")) is not None:
            cron_id = key.removeprefix(CRON_PREFIX)
            run_id = fired_run_id(cron_id, pending)
            ran = any(
                e["type"] == "run.created" and e["run_id"] == run_id for one in self.exported for e in one.record.events
            )
        return {"next_due_at": due, "ran": ran}

    # --- the run -----------------------------------------------------------------------------------------------------

    def client(self) -> None:
        update = UpdateThread(thread_id=uid(self.random.randrange(THREADS)), metadata={"n": self.world.next_id()})
        self.world.send(None, update)

    def step(self) -> None:
        if not self.importers and self.random.random() < 0.5:
            self.importers.append(Importer(self))
        if len(self.importers) < 2 and self.random.random() < 0.01:
            self.importers.append(Importer(self))
        for importer in list(self.importers):
            if self.random.random() < 0.01:  # killed, and begun anew
                self.importers.remove(importer)
                self.restarts += 1
            elif self.random.random() < 0.7:
                importer.step()
        while self.world.command_net and self.random.random() < 0.8:
            self.world.deliver_command()
        super().step()

    def quiesce(self) -> None:
        if self.world.cron_clients is not None:
            self.world.cron_clients.closing = True
        last = Importer(self)
        for _ in range(4000):
            self.world.now += 0.05
            last.step()
            if last.done:
                break
            while self.world.command_net:
                self.world.deliver_command()
            for n, owner in enumerate(self.owners):
                if not owner.alive and owner.p.epoch == owner.term.epoch:
                    self.owners[n] = Owner(self.world, owner.p, postgres=self.postgres, max_keys=self.max_keys)
            for owner in self.owners:
                owner.paused = False
                owner.step(faults=False)
                while owner.wire:
                    owner.deliver(faults=False)
                owner.commit(faults=False)
        assert last.done, "I19: the import does not come to its end"
        super().quiesce()


def run(seed: int, source: SimulatedWorld, *, silent: bool = True, chained: bool = True) -> ImportOutcome:
    """Import the source's log as it is now into a world of its own, and check the invariants, I19 too."""
    lines = exported(source)
    scenario = ImportScenario(seed, lines, silent=silent, chained=chained)
    for _ in range(STEPS):
        scenario.step()
    scenario.quiesce()
    checks.check(scenario.world, {owner.p.number: owner.term for owner in scenario.owners})
    return _check(scenario, lines)


def _check(scenario: ImportScenario, lines: list[Exported]) -> ImportOutcome:
    """I19."""
    world = scenario.world
    there: dict[str, list[Exported]] = {}
    for line in lines:
        there.setdefault(line.record.key, []).append(line)
    here: dict[str, list[EventRecord]] = {}
    for p in world.partitions:
        for record in checks.accepted(p):
            here.setdefault(record.key, []).append(record)
    ended = refused = went_on = 0
    for key, history in there.items():
        records = here.get(key, [])
        mine = [record for record in records if record.imported]
        if not mine:
            own = [r for r in records if any(e["type"] == "thread.created" for e in r.events)]
            assert own, f"I19: nothing of {key} was imported, and it has no history of its own"
            refused += 1
            continue
        told = [(r.cmd_id, r.at, r.actor, r.events[1:], r.events[0]["offset"]) for r in mine]
        wanted = [(h.record.cmd_id, h.record.at, h.record.actor, h.record.events, h.offset) for h in history]
        assert told == wanted, f"I19: {key} has {told} instead of {wanted}"
        closes = [n for n, r in enumerate(records) if r.events and r.events[0]["type"] == "history.closed"]
        assert len(closes) == 1, f"I19: {key} was closed {len(closes)} times"
        between = [r for r in records[: closes[0]] if not r.imported and not _changes_nothing(r)]
        assert not between, f"I19: {key} took {between} before its import was closed"
        went_on += sum(not _changes_nothing(r) for r in records[closes[0] + 1 :])
        ended += sum(e["type"] == "run.interrupted" for e in records[closes[0]].events)
        _same_state(key, history, mine)
        _same_tables(key, history, mine)
        _without_effects(key, records[: closes[0] + 1], records[closes[0] :], scenario)
    return ImportOutcome(len(lines), scenario.restarts, ended, refused, went_on)


def _changes_nothing(record: EventRecord) -> bool:
    return all(event["type"] in checks.SILENT for event in record.events)


def _same_state(key: str, history: Iterable[Exported], mine: Iterable[EventRecord]) -> None:
    """What deciders keep is the same as there."""
    there, here = _folded(key, [h.record for h in history]), _folded(key, mine)
    kept = {name: state for name, state in here.items() if name != "history"}
    assert kept == there, f"I19: {key} is {kept}, not {there}"


def _folded(key: str, records: Iterable[EventRecord]) -> States:
    states = EMPTY
    for r in records:
        states = decider.fold_wire(states, key, r.cmd_id, r.at, r.events)
    return states


def _same_tables(key: str, history: Iterable[Exported], mine: Iterable[EventRecord]) -> None:
    """So are the read models, but for what has something to follow."""
    there, here = Tables(), Tables()
    for h in history:
        there.apply(h.record)
    for r in mine:
        here.apply(r)
    for name in ("threads", "runs", "checkpoints", "items", "ttls"):
        assert getattr(here, name) == getattr(there, name), f"I19: {name} of {key}: {here} instead of {there}"
    assert here.keyed.requests == there.keyed.requests and here.keyed.commands == there.keyed.commands, f"I19: {key}"
    assert here.crons.crons.keys() == there.crons.crons.keys(), f"I19: {key}"
    assert not here.timers and not any(cron["next"] for cron in here.crons.crons.values()), f"I19: {key} is due: {here}"
    for name in ("queue", "webhooks"):
        rows = getattr(here, name)
        assert rows.keys() == getattr(there, name).keys(), f"I19: {key}: in flight are {here} instead of {there}"
        assert all(row["elsewhere"] for row in rows.values()), f"I19: {key}: {name} has {rows}"
    assert here.crons.firings.keys() == there.crons.firings.keys(), f"I19: {key}"


def _without_effects(key: str, until: list[EventRecord], after: list[EventRecord], scenario: ImportScenario) -> None:
    world = scenario.world
    for record in until:
        for e in record.events:
            run_id = e.get("run_id")
            assert not any(claimed == run_id for claimed, _ in world.claims), f"I19: {run_id} was executed again"
            if world.receivers is not None:
                assert not any(post.run_id == run_id for post in world.receivers.posts), f"I19: {run_id} was POSTed"
    fired = {e["due_at"] for r in until for e in r.events if e["type"] == "cron.fired"}
    for record in after:
        for e in record.events:
            if e["type"] == "cron.fired":
                assert e["due_at"] not in fired, f"I19: {key} fires again for {e['due_at']}"
                closed = datetime.fromisoformat(after[0].at)
                assert datetime.fromisoformat(e["due_at"]) > closed, (
                    f"I19: {key} fires for {e['due_at']}, which is past"
                )
