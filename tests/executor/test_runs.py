"""One attempt from claim to report."""

from __future__ import annotations

from tests.executor.stage import Stage


async def test_a_short_run_is_one_report_with_everything_in_it(stage: Stage, serving) -> None:
    executor = await serving("noop")
    run_id = await stage.enqueue("noop", {"items": ["in"]})
    outcome = await stage.outcome(run_id)
    assert outcome["status"] == "success"
    assert outcome["next"] == [] and outcome["interrupts"] == {}
    (report,) = await stage.reports(run_id)
    assert report["started"]["executor"] == executor.executor_id
    kinds = [item["kind"] for item in report["items"]]
    assert kinds.count("checkpoint") == 4
    assert outcome["checkpoint_id"] == [i["checkpoint_id"] for i in report["items"] if i["kind"] == "checkpoint"][-1]
    assert await stage.frames(run_id) == [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        ("values", {"items": ["in"]}),
        ("values", {"items": ["in", "x"]}),
        ("values", {"items": ["in", "x", "y"]}),
    ]
