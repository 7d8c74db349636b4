"""What imported events do not change: nothing follows from them here that executors, timers, crons or webhooks would
do."""

from __future__ import annotations

from typing import Any

from threadlog.projections.fold import crons
from threadlog.projections.fold.batch import ProjectionBatch

NOT_HERE = -1
"""The partition of rows that no engine owns: they only say what was in flight, which keeps values that it refers to."""


def without_effects(rows: ProjectionBatch, event: dict[str, Any]) -> None:
    """Take back what the handler of an imported event has folded that something would follow from."""
    kind: str = event["type"]
    if kind.startswith("cron."):
        if kind != "cron.deleted":
            rows.crons[-1] = crons.without_times(rows.crons[-1], NOT_HERE if kind == "cron.fired" else None)
        return
    run_id = event.get("run_id") or event.get("job_id")
    if run_id is None:
        return
    if kind == "run.created":
        rows.timers.pop(f"due:{run_id}", None)
        if (run := rows.runs.get(run_id)) is not None:
            run.stream_from = 0  # a position of another log
    elif kind in ("run.scheduled", "state.update_requested"):
        if (queued := rows.queued.get(run_id)) is not None:
            queued.p, queued.cancel = NOT_HERE, "interrupt"  # nobody can claim it, nobody expires it
    elif kind == "webhook.requested":
        rows.webhooks.pop(run_id, None)
    elif kind == "webhook.failed":
        rows.webhook_changes.pop(run_id, None)
    rows.stops.pop(run_id, None)
