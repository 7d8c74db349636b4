"""What events mean for usage: runs with their facts, and what they add to windows. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from threadlog.engine.domain.wire import is_time
from threadlog.projections.derived.prices import PriceTable

TAGS = 20
"""Tags of a run that are counted, and characters of a value that is."""
VALUE_CHARACTERS = 200

TOKENS = ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "reasoning_tokens")
_ENDS = {"run.succeeded": "success", "run.failed": "error", "run.timed_out": "timeout"}
_STOPS = {"run.interrupted": "interrupted", "run.rolled_back": "rolled_back", "run.deleted": "deleted"}

BUCKET_GROWTH = 1.2
"""Durations are counted in buckets, each a fifth longer than the one before, so a quantile is right to a tenth."""
BUCKET_SECONDS = 0.001
"""What the first bucket holds; all together reach for a year."""

Key = tuple[datetime, str, str]
"""Start of a window, dimension, value."""


@dataclass(slots=True)
class RunFacts:
    """A run as far as its events have told."""

    run_id: str
    thread_id: str
    graph_id: str
    assistant_id: str
    actor: str
    tags: list[str]
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status: str | None = None
    attempts: int = 0
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    cost: Decimal = Decimal(0)

    def dimensions(self) -> list[tuple[str, str]]:
        fixed = [("all", ""), ("assistant", self.assistant_id), ("graph", self.graph_id), ("user", self.actor)]
        return [*fixed, *(("tag", tag) for tag in self.tags)]


class Counts:
    """What a batch of records adds: changed runs, and sums per window."""

    def __init__(self, prices: PriceTable, runs: Mapping[str, RunFacts]) -> None:
        """`runs`: those that the batch is about and that were created before it."""
        self._prices = prices
        self.runs = dict(runs)
        self.changed: set[str] = set()
        self.ended: list[str] = []
        """Runs that ended, in this order."""
        self.of_runs: dict[Key, Counter[str]] = {}
        self.durations: dict[tuple[Key, str, int], int] = {}
        """How many runs waited (`wait`) and executed (`run`) so long, by bucket."""
        self.of_usage: dict[tuple[Key, str], Counter[str]] = {}
        self.costs: dict[tuple[Key, str], Decimal] = {}

    def add(self, events: Iterable[dict[str, Any]], *, at: str, actor: str | None) -> None:
        """The events of one accepted record."""
        when = datetime.fromisoformat(at)
        for event in events:
            kind = event["type"]
            if kind == "run.created":
                self._created(event, when, actor)
            elif kind == "thread.deleted":
                for left in [r for r in self.runs.values() if r.thread_id == event["thread_id"] and not r.ended_at]:
                    self._end(left, left.status or "deleted", when)
            elif (run := self.runs.get(event.get("run_id", ""))) is not None and run.ended_at is None:
                self._of_run(run, kind, event, when)

    def _created(self, event: dict[str, Any], when: datetime, actor: str | None) -> None:
        said = event["run"]
        config = (said.get("kwargs") or {}).get("config") or {}
        tags = config.get("tags") if isinstance(config, dict) else None
        named = [tag[:VALUE_CHARACTERS] for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        run = RunFacts(
            run_id=event["run_id"],
            thread_id=event["thread_id"],
            graph_id=event["graph_id"][:VALUE_CHARACTERS],
            assistant_id=str(said.get("assistant_id") or "")[:VALUE_CHARACTERS],
            actor=(actor or "")[:VALUE_CHARACTERS],
            tags=sorted(set(named))[:TAGS],
            created_at=when,
        )
        self.runs.setdefault(run.run_id, run)
        self.changed.add(run.run_id)

    def _of_run(self, run: RunFacts, kind: str, event: dict[str, Any], when: datetime) -> None:
        if kind == "run.started":
            run.started_at = run.started_at or _began(event, run, when)
            run.attempts = max(run.attempts, event.get("attempt", 1))
        if event.get("usage"):
            self._used(run, event["usage"], when)
        if kind in _ENDS:
            run.attempts = max(run.attempts, event.get("attempt", 1))
            self._end(run, _ENDS[kind], when)
        elif kind in _STOPS:
            run.status = _STOPS[kind]
            if not event.get("stopping"):
                self._end(run, run.status, when)
        elif kind == "run.stopped":
            self._end(run, run.status or "interrupted", when)
        self.changed.add(run.run_id)

    def _used(self, run: RunFacts, usage: Mapping[str, Mapping[str, int]], when: datetime) -> None:
        for model, tokens in usage.items():
            cost = self._prices.cost(model, tokens)
            sums = Counter(run.usage.get(model, {}))
            sums.update(tokens)
            run.usage[model] = dict(sums)
            run.cost += cost or 0
            counted = Counter({kind: tokens.get(kind, 0) for kind in ("calls", *TOKENS)})
            if cost is None:
                counted["unpriced_calls"] = tokens.get("calls", 0)
            for key in _keys(run, when):
                self.of_usage.setdefault((key, model), Counter()).update(counted)
                self.costs[key, model] = self.costs.get((key, model), Decimal(0)) + (cost or 0)

    def _end(self, run: RunFacts, status: str, when: datetime) -> None:
        run.status, run.ended_at = status, when
        self.changed.add(run.run_id)
        self.ended.append(run.run_id)
        sums: Counter[str] = Counter(runs=1, attempts=run.attempts)
        sums["succeeded"] = int(status == "success")
        sums["failed"] = int(status in ("error", "timeout"))
        sums["timed_out"] = int(status == "timeout")
        sums["interrupted"] = int(status == "interrupted")
        began = run.started_at or when
        durations = {
            "wait": max(0.0, (began - run.created_at).total_seconds()),
            "run": max(0.0, (when - began).total_seconds()),
        }
        seconds: dict[str, Any] = {f"{kind}_seconds": duration for kind, duration in durations.items()}
        for key in _keys(run, when):
            added = self.of_runs.setdefault(key, Counter())
            added.update({**sums, **seconds})
            for kind, duration in durations.items():
                added[f"{kind}_max"] = max(added[f"{kind}_max"], duration)  # type: ignore[assignment]
                place = (key, kind, bucket_of(duration))
                self.durations[place] = self.durations.get(place, 0) + 1


def _began(event: dict[str, Any], run: RunFacts, when: datetime) -> datetime:
    """When the attempt began, by its executor's clock, which may be wrong: a short one is reported at its end."""
    at = event.get("at")
    if not isinstance(at, str) or not is_time(at):
        return when
    return max(run.created_at, min(datetime.fromisoformat(at), when))


def bucket_of(seconds: float) -> int:
    """The bucket of a duration; `seconds_of` is the longest that it holds."""
    return 0 if seconds <= BUCKET_SECONDS else math.ceil(round(math.log(seconds / BUCKET_SECONDS, BUCKET_GROWTH), 9))


def seconds_of(bucket: int) -> float:
    return BUCKET_SECONDS * BUCKET_GROWTH**bucket


def _keys(run: RunFacts, when: datetime) -> list[Key]:
    start = when.replace(minute=0, second=0, microsecond=0)
    return [(start, dimension, value) for dimension, value in run.dimensions()]
