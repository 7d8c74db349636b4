"""However user code ends an attempt, its run ends: every kind of exception, and cancellations of its own."""

from __future__ import annotations

import pytest

from tests.executor.executor_harness import ExecutorHarness
from tests.installed import has

# Before, LangGraph took no notice of a node that ends cancelled, as long as others ran beside it.
CANCELLED_FAILS = has("langgraph", "1.2.4")

# As Python tells it: coroutines and generators turn some into a RuntimeError on their way.
RAISED = {
    "generator exit": "GeneratorExit or RuntimeError",
    "stop iteration": "RuntimeError",
    "stop async iteration": "StopAsyncIteration or RuntimeError",
    "cancelled": "NodeCancelledError" if CANCELLED_FAILS else "CancelledError",
    "base": "Own",
    "group": "ExceptionGroup",
    "base group": "BaseExceptionGroup",
    "unspeakable": "Unspeakable",
    "surrogate": "ValueError",
    "drained": "GraphDrained",
    "memory": "MemoryError",
}
CANCELLED = [
    *(("raising_async", how) for how in ("task group", "leaked scope", "cancelled for ever", "cancelled later")),
    *(("raising_async_beside", how) for how in ("task group", "leaked scope", "cancelled for ever")),
]
GRAPHS = ["raising", "raising_async", "raising_beside", "raising_async_beside"]


# A GeneratorExit that a thread raises closes what awaits it: LangGraph's coroutines, which go on waiting.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("graph", GRAPHS)
async def test_whatever_a_node_raises_its_run_fails_and_the_next_one_runs(
    harness: ExecutorHarness, serving, graph: str
) -> None:
    executor = await serving(graph, "noop")
    for how, error in RAISED.items():
        run_id = await harness.enqueue(graph, {"items": [how]})
        outcome = await harness.outcome(run_id)
        if how == "cancelled" and graph.endswith("_beside") and not CANCELLED_FAILS:
            assert outcome["status"] == "success"
            continue
        assert outcome["status"] == "error", how
        assert outcome["error"]["error"] in error.split(" or "), how
        assert [name for name, _ in await harness.frames(run_id)].count("error") == 1, how
    run_id = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(run_id))["status"] == "success"
    assert executor.attempts == {}


@pytest.mark.parametrize(("graph", "how"), CANCELLED)
async def test_an_attempt_that_user_code_cancels_is_reported_all_the_same(
    harness: ExecutorHarness, serving, graph: str, how: str
) -> None:
    executor = await serving(graph, "noop")
    run_id = await harness.enqueue(graph, {"items": [how]})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] in ("error", "success")
    run_id = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(run_id))["status"] == "success"
    assert executor.attempts == {}
