"""Crons in the simulation: clients that make, change and delete them, what a partition's owner sends for those that are
due or have fired, and what the accepted log has to say of it in the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from threadlog.engine.crons.service import refusal_of
from threadlog.engine.domain.commands import (
    Command,
    CreateCron,
    CreateRun,
    DeleteCron,
    FireCron,
    MultitaskStrategy,
    RecordCronRun,
    UpdateCron,
)
from threadlog.engine.ids import fired_run_id, stateless_thread_id
from threadlog.engine.log.records import EventRecord

STEP_CHANCE = 0.03  # of a client's command per step of the scenario
CRONS = 4
THREADS = 5
STRATEGIES: tuple[MultitaskStrategy, ...] = ("reject", "enqueue", "interrupt", "rollback")
ASSISTANT = "00000000-0000-4000-8000-00000000aaaa"

Sent = tuple[str, Command]  # with the command's id


@dataclass
class CronTables:
    """The crons of a partition, their firings without a run, and what became of commands that owners of crons sent."""

    crons: dict[str, dict[str, Any]] = field(default_factory=dict)
    firings: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, str | None] = field(default_factory=dict)

    def apply(self, event: dict[str, Any]) -> None:
        cron_id = event["cron_id"]
        match event["type"]:
            case "cron.created":
                self.crons[cron_id] = {"next": event.get("next_due_at"), "thread": event.get("thread_id"), "version": 1}
            case "cron.updated":
                self.crons[cron_id]["version"] = event["version"]
                if event.get("reschedules"):
                    self.crons[cron_id]["next"] = event.get("next_due_at")
            case "cron.deleted":
                del self.crons[cron_id]
                self.firings = {known: firing for known, firing in self.firings.items() if known[0] != cron_id}
            case "cron.fired":
                self.crons[cron_id]["next"] = event.get("next_due_at")
                assert not [known for known in self.firings if known[0] == cron_id], f"I17: {cron_id} fires out of turn"
                self.firings[cron_id, event["due_at"]] = event
            case "cron.ended":
                self.crons[cron_id]["next"] = None
            case "cron.run_created" | "cron.run_refused":
                del self.firings[cron_id, event["due_at"]]

    def decided(self, record: EventRecord) -> None:
        """What the sender of a cron's run learns once it is projected: None, or why it was refused. The first answer
        counts: a repetition has another one if the thread has gone or come meanwhile."""
        if record.cmd_id.startswith("cron:") and record.cmd_id.endswith(":run"):
            refusal = refusal_of(record.events)
            self.outcomes.setdefault(record.cmd_id, None if refusal is None else refusal["detail"])


class CronClients:
    """Of a random generator of its own, as the store's."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.made: list[str] = []
        self.closing = False

    def command(self, now: datetime, crons: Iterable[dict[str, dict[str, Any]]]) -> Command | None:
        """What a client sends now, if it does. `crons`: those that it can see, partition by partition."""
        rnd = self.random
        if rnd.random() >= STEP_CHANCE:
            return None
        if len(self.made) < CRONS or rnd.random() < 0.1:
            cron_id = f"00000000-0000-7000-8000-{len(self.made):012d}"
            self.made.append(cron_id)
            thread_id = f"00000000-0000-4000-8000-{rnd.randrange(THREADS):012d}" if rnd.random() < 0.6 else None
            return CreateCron(
                cron_id=cron_id, assistant_id=ASSISTANT, schedule="…", thread_id=thread_id,
                end_time=_iso(now + timedelta(seconds=100)) if rnd.random() < 0.2 else None,
                next_due_at=_iso(now + timedelta(seconds=rnd.choice((1, 5, 20)))),
            )  # fmt: skip
        cron_id = rnd.choice(self.made[-CRONS:])
        if rnd.random() < 0.2:
            return DeleteCron(cron_id=cron_id)
        seen = next((some[cron_id] for some in crons if cron_id in some), {"version": 1, "next": None})
        next_due_at = seen["next"]  # what it will be due again by the same schedule, which may fire before the command
        if next_due_at is None or rnd.random() < 0.6:
            next_due_at = _iso(now + timedelta(seconds=rnd.choice((0, 3, 9)))) if rnd.random() < 0.8 else None
        return UpdateCron(
            cron_id=cron_id, version=seen["version"], reschedules=rnd.random() < 0.9, enabled=rnd.random() < 0.8,
            next_due_at=next_due_at,
        )  # fmt: skip

    def next_after(self, due_at: str, now: datetime) -> str | None:
        """The next time of a cron that fires every 7 s, in the end none."""
        if self.closing:
            return None
        return _iso(max(datetime.fromisoformat(due_at), now) + timedelta(seconds=7))


def sent_by_owner(
    tables: CronTables, outcomes: Mapping[str, str | None], clients: CronClients, now: datetime
) -> Iterable[Sent]:
    """What the owner of these crons sends now. `outcomes`: of all partitions, as far as they are projected."""
    for cron_id, cron in tables.crons.items():
        due_at = cron["next"]
        if due_at is not None and datetime.fromisoformat(due_at) <= now:
            run_id = fired_run_id(cron_id, due_at)
            yield (
                f"cron:{cron_id}:{due_at}",
                FireCron(
                    cron_id=cron_id, due_at=due_at, run_id=run_id,
                    thread_id=cron["thread"] or stateless_thread_id(run_id),
                    next_due_at=clients.next_after(due_at, now),
                ),
            )  # fmt: skip
    for (cron_id, due_at), firing in tables.firings.items():
        if firing.get("elsewhere"):
            continue
        name = f"cron:{cron_id}:{due_at}:run"
        if name in outcomes:
            refusal = outcomes[name]
            error = None if refusal is None else {"error": "refused", "message": refusal}
            yield f"cron:{cron_id}:{due_at}:recorded", RecordCronRun(cron_id=cron_id, due_at=due_at, error=error)
            continue
        of_thread = tables.crons[cron_id]["thread"] is not None
        yield (
            name,
            CreateRun(
                thread_id=firing["thread_id"], run_id=firing["run_id"], graph_id="g", run={}, temporary=not of_thread,
                multitask_strategy=STRATEGIES[crc32(name.encode()) % len(STRATEGIES)],
                create_thread=None if of_thread else {}, cron_id=cron_id, cron_due_at=due_at,
            ),
        )  # fmt: skip


def check(records: Iterable[EventRecord]) -> int:
    """I17 of the accepted records of all partitions; returns the number of firings."""
    fired: Counter[tuple[str, str]] = Counter()
    runs: Counter[tuple[str, str]] = Counter()
    ends: dict[tuple[str, str], str] = {}
    deleted: set[str] = set()
    for record in records:
        for event in record.events:
            match event["type"]:
                case "cron.fired":
                    fired[event["cron_id"], event["due_at"]] += 1
                case "run.created" if event.get("cron_id"):
                    runs[event["cron_id"], event["cron_due_at"]] += 1
                case "cron.run_created" | "cron.run_refused" as end:
                    assert (event["cron_id"], event["due_at"]) not in ends, f"I17: {event} again"
                    ends[event["cron_id"], event["due_at"]] = end
                case "cron.deleted":
                    deleted.add(event["cron_id"])
    for firing, count in fired.items():
        assert count == 1, f"I17: {firing} fired {count} times"
        end = ends.get(firing)
        assert end is not None or firing[0] in deleted, f"I17: {firing} was never recorded"
        wanted = {"cron.run_created": (1,), "cron.run_refused": (0,), None: (0, 1)}[end]
        assert runs[firing] in wanted, f"I17: {firing} has {runs[firing]} runs, {end}"
    assert runs.keys() <= fired.keys(), f"I17: runs that no cron fired: {runs.keys() - fired.keys()}"
    return len(fired)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
