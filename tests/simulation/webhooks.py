"""Receivers of webhooks: which runs have one, what becomes of a POST, and what may be said of all POSTs afterwards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from threadlog.engine.domain.commands import ReportWebhook
from threadlog.engine.log.records import EventRecord

RUN_ENDS = {"run.succeeded": "success", "run.failed": "error", "run.timed_out": "timeout"}


@dataclass(frozen=True)
class Post:
    """An attempt that was sent, when `events` of its partition was so long."""

    partition: int
    run_id: str
    attempt: int
    events: int


@dataclass
class Receivers:
    """Draws from numbers of its own, so that a seed without webhooks is what it was.

    `owned`: before it sends, an owner looks whether the partition is its own and whether the delivery is recorded;
    without that, the control, it sends what was delivered.
    """

    random: random.Random
    owned: bool = True
    posts: list[Post] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """What the run of a client says."""
        return {"kwargs": {"webhook": "https://example.org/"}} if self.random.random() < 0.5 else {}

    def post(self, p: Any, thread_id: str, run_id: str, attempt: int, retry_at: str) -> ReportWebhook:
        """Send it; returns what its sender will report."""
        self.posts.append(Post(p.number, run_id, attempt, len(p.events)))
        x = self.random.random()
        outcome: Any = "delivered" if x < 0.5 else "failed" if x < 0.9 else "dead"
        due_at = retry_at if outcome == "failed" else None
        return ReportWebhook(thread_id=thread_id, run_id=run_id, attempt=attempt, outcome=outcome, due_at=due_at)

    def crash(self) -> bool:
        """Whether the sender dies right after the POST, before its report has left."""
        return self.random.random() < 0.1


def check(number: int, records: Sequence[tuple[int, EventRecord]], posts: Sequence[Post]) -> None:
    """I15, for one partition. `records`: the accepted ones, each with how many records were in the log with it."""
    hooked: set[str] = set()
    stopped_by: dict[str, str] = {}
    requested: Counter[str] = Counter()
    owed: set[str] = set()
    fates: dict[str, list[tuple[str, int]]] = {}
    delivered: dict[str, int] = {}
    thread_of: dict[str, str] = {}
    for length, record in records:
        for e in record.events:
            kind, run_id = e["type"], e.get("run_id", "")
            if kind == "run.created" and e["run"]:
                hooked.add(run_id)
                thread_of[run_id] = record.key
            elif kind in RUN_ENDS and run_id in hooked:
                owed.add(run_id)
            elif kind == "run.interrupted" and e.get("stopping") and run_id in hooked:
                stopped_by[run_id] = "interrupt"
            elif kind == "run.rolled_back" and e.get("stopping") and run_id in hooked:
                owed.add(run_id)
            elif kind == "run.deleted":
                stopped_by.pop(run_id, None)
            elif kind == "run.stopped" and stopped_by.pop(run_id, None):
                owed.add(run_id)
            elif kind == "webhook.requested":
                requested[run_id] += 1
                fates[run_id] = []
            elif kind.startswith("webhook."):
                fates[run_id].append((kind, e["attempt"]))
                if kind == "webhook.delivered":
                    delivered[run_id] = length
    assert requested == Counter(owed), f"I15: partition {number} asked for {requested}, owed are {owed}"
    for run_id, fate in fates.items():
        *failed, (last, _) = fate or [("nothing", 0)]
        assert last in ("webhook.delivered", "webhook.dead"), f"I15: the webhook of {run_id} ended as {fate}"
        assert all(kind == "webhook.failed" for kind, _ in failed), f"I15: {run_id}: {fate}"
        assert [attempt for _, attempt in fate] == list(range(1, len(fate) + 1)), f"I15: {run_id}: {fate}"
    for post in posts:
        if post.partition == number:
            late = post.run_id in delivered and post.events >= delivered[post.run_id]
            assert not late, f"I15: {post} although {post.run_id} was delivered at {delivered[post.run_id]}"
