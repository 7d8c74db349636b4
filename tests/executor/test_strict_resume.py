"""Strict resume with a LangGraph that does it itself, and with one that can't."""

from __future__ import annotations

from typing import Any

import pytest

from tests.executor.executor_harness import ExecutorHarness
from threadlog.engine.executor.run import strict_resume

UNKNOWN = "f" * 32


@pytest.fixture(params=["LangGraph's", "ours"])
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "ours":
        monkeypatch.setattr(strict_resume, "STRICT", None)
    elif strict_resume.STRICT is None:
        pytest.skip("LangGraph does it itself since 1.2.20")
    return str(request.param)


async def asked(harness: ExecutorHarness, graph: str) -> tuple[str, list[str]]:
    """A thread that waits for answers, and the ids of its interrupts."""
    run_id = await harness.enqueue(graph, {"items": []})
    outcome = await harness.outcome(run_id)
    return await harness.thread_of(run_id), sorted(i["id"] for one in outcome["interrupts"].values() for i in one)


async def resumed(
    harness: ExecutorHarness, graph: str, thread_id: str, resume: Any, **kwargs: Any
) -> tuple[dict[str, Any], str]:
    run_id = await harness.enqueue(
        graph, None, thread_id=thread_id, command={"resume": resume}, strict_resume=True, **kwargs
    )
    return await harness.outcome(run_id), run_id


async def test_what_no_interrupt_waits_for_is_refused(harness: ExecutorHarness, serving: Any, check: str) -> None:
    await serving("hitl")
    thread_id, [waiting] = await asked(harness, "hitl")
    outcome, run_id = await resumed(harness, "hitl", thread_id, {UNKNOWN: "yes"})
    assert (outcome["status"], outcome["refused"]) == ("error", True)
    assert outcome["error"] == {
        "error": "UnknownInterruptError",
        "message": f"Unknown or already-consumed interrupt: {UNKNOWN}",
        "reason": "not_pending",
        "interrupt_ids": [UNKNOWN],
        "pending_ids": [waiting],
    }
    assert await harness.items(run_id) == []
    assert [name for name, _ in await harness.frames(run_id)] == ["metadata", "error"]
    outcome, _ = await resumed(harness, "hitl", thread_id, {})
    assert outcome["error"]["reason"] == "empty_map"
    outcome, _ = await resumed(harness, "hitl", thread_id, {waiting: "yes"})
    assert outcome["status"] == "success" and "refused" not in outcome
    outcome, _ = await resumed(harness, "hitl", thread_id, {waiting: "yes"})
    assert (outcome["error"]["reason"], outcome["error"]["pending_ids"]) == ("not_pending", [])


async def test_one_answer_for_two_is_refused(harness: ExecutorHarness, serving: Any, check: str) -> None:
    await serving("parallel_questions")
    thread_id, waiting = await asked(harness, "parallel_questions")
    assert len(waiting) == 2
    outcome, _ = await resumed(harness, "parallel_questions", thread_id, "yes")
    assert (outcome["refused"], outcome["error"]["reason"], outcome["error"]["pending_ids"]) == (
        True, "ambiguous", waiting
    )  # fmt: skip
    outcome, _ = await resumed(harness, "parallel_questions", thread_id, {waiting[0]: "yes"})
    assert outcome["status"] == "success"
    outcome, _ = await resumed(harness, "parallel_questions", thread_id, "yes")
    assert outcome["status"] == "success", "one is left, and no doubt which"


async def test_a_single_answer_without_a_question_is_taken(harness: ExecutorHarness, serving: Any, check: str) -> None:
    await serving("hitl")
    thread_id, _ = await asked(harness, "hitl")
    outcome, _ = await resumed(harness, "hitl", thread_id, "yes")
    assert outcome["status"] == "success"
    outcome, _ = await resumed(harness, "hitl", thread_id, "more")
    assert "refused" not in outcome
