"""Spans of attempts and nodes: in the run's trace, current where user code runs, linked to what they follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, format_trace_id

from tests.executor.executor_harness import ExecutorHarness
from tests.exported_spans import Exported, exported_spans, id_of
from threadlog.engine.log.port import Topic
from threadlog.engine.log.records import CommandEnvelope
from threadlog.engine.tracing.spans import attempt_span_id

DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, SAMPLED_OUT = f"00-{TRACE}-{PARENT}-01 vendor=1", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def exported() -> Iterator[Exported]:
    with exported_spans() as exporter:
        yield Exported(exporter)


async def last_values(harness: ExecutorHarness, run_id: str) -> Any:
    return [data for name, data in await harness.frames(run_id) if name == "values"][-1]


async def test_nodes_run_in_spans_of_their_own_in_the_trace_of_the_run(
    harness: ExecutorHarness, serving: Any, exported: Exported
) -> None:
    await serving("traced")
    run_id = await harness.enqueue("traced", {"seen": []}, trace=SAMPLED)
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "success"
    attempt = await exported.attempt(run_id)
    assert format_trace_id(attempt.context.trace_id) == TRACE and id_of(attempt.parent) == PARENT
    assert attempt.context.trace_state["vendor"] == "1"
    assert attempt.context.span_id == attempt_span_id(run_id, 1)
    nodes = exported.below(attempt)
    assert nodes.keys() == {"node in_thread", "node on_loop", "node below", "node calls", "node left", "node right"}
    values = (await last_values(harness, run_id))["seen"]
    # inner and second ran in two nodes: the last ones are those of `calls`
    current = dict(map(tuple, values))
    for name in ("in_thread", "on_loop", "calls", "left", "right"):
        assert current[name] == id_of(nodes[f"node {name}"].context), name
    for outer in ("node below", "node calls"):
        assert exported.below(nodes[outer]).keys() == {"node inner", "node second"}
    assert current["inner"] == id_of(exported.below(nodes["node calls"])["node inner"].context)
    assert current["second"] == id_of(exported.below(nodes["node calls"])["node second"].context)


async def test_tasks_of_a_function_have_spans(harness: ExecutorHarness, serving: Any, exported: Exported) -> None:
    await serving("traced_function")
    run_id = await harness.enqueue("traced_function", 1, trace=SAMPLED)
    await harness.outcome(run_id)
    [function] = exported.below(await exported.attempt(run_id)).values()
    assert function.name == "node traced_function"
    steps = {id_of(span.context) for span in exported.named("node step")}
    first, second, own = await last_values(harness, run_id)
    assert own == ["traced_function", id_of(function.context)]
    assert len(steps) == 2 and steps == {first[1], second[1]}


async def test_reports_carry_the_trace_of_their_attempt(
    harness: ExecutorHarness, serving: Any, exported: Exported
) -> None:
    await serving("traced")
    run_id = await harness.enqueue("traced", {"seen": []}, trace=SAMPLED)
    await harness.outcome(run_id)
    reports = [
        envelope
        for p in range(harness.log.partitions)
        for record in await harness.log.read(Topic.COMMANDS, p, 0)
        if (envelope := CommandEnvelope.decode(record.value)).type == "run.report"
    ]
    span_id = id_of((await exported.attempt(run_id)).context)
    assert reports and {report.trace for report in reports} == {f"00-{TRACE}-{span_id}-01 vendor=1"}


async def test_what_its_client_does_not_sample_is_not_exported(
    harness: ExecutorHarness, serving: Any, exported: Exported
) -> None:
    await serving("traced")
    run_id = await harness.enqueue("traced", {"seen": []}, trace=SAMPLED_OUT)
    assert (await harness.outcome(run_id))["status"] == "success"
    after = await harness.enqueue("traced", {"seen": []}, trace=SAMPLED)
    await exported.attempt(after)
    assert not [span for span in exported.all() if (span.attributes or {}).get("threadlog.run_id") == run_id]


async def test_a_lost_attempt_is_linked_by_the_next(harness: ExecutorHarness, serving: Any, exported: Exported) -> None:
    run_id = await harness.enqueue("traced", {"seen": []}, trace=SAMPLED)
    await harness.expire(run_id)
    await serving("traced")
    second = await exported.attempt(run_id, 2)
    [link] = second.links
    assert (format_trace_id(link.context.trace_id), link.context.span_id) == (TRACE, attempt_span_id(run_id, 1))
    assert id_of(second.parent) == PARENT


async def test_a_question_is_no_error_and_its_answer_is_linked(
    harness: ExecutorHarness, serving: Any, exported: Exported
) -> None:
    await serving("traced_question")
    asking = await harness.enqueue("traced_question", {"seen": []}, trace=SAMPLED)
    assert (await harness.outcome(asking))["interrupts"]
    thread_id = await harness.thread_of(asking)
    await exported.attempt(asking)
    [node] = exported.named("node asks")
    assert node.status.status_code is StatusCode.UNSET and node.attributes["threadlog.interrupted"]
    await harness.project()
    answering = await harness.enqueue(
        "traced_question", None, thread_id=thread_id, command={"resume": "!"}, trace=SAMPLED.replace(TRACE, "ab" * 16)
    )
    await harness.outcome(answering)
    [link] = (await exported.attempt(answering)).links
    assert (format_trace_id(link.context.trace_id), link.context.span_id) == (TRACE, attempt_span_id(asking, 1))


async def test_what_nodes_trace_themselves_is_below_their_spans(
    harness: ExecutorHarness, serving: Any, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of docs/monitoring.md."""
    code = DOCS.read_text().partition("## Traces")[2].partition("```python\n")[2].partition("```")[0]
    graph = "StateGraph(dict).add_node(price).add_edge(START, 'price').compile()"
    (harness.folder / "priced.py").write_text(
        f"from langgraph.graph import START, StateGraph\n{code}\npriced = {graph}\n"
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported.exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    await serving("./priced.py:priced")
    run_id = await harness.enqueue("./priced.py:priced", {"sku": "one"}, trace=SAMPLED)
    assert (await harness.outcome(run_id))["status"] == "success"
    await exported.attempt(run_id)
    [node] = exported.named("node price")
    [looked_up] = exported.below(node).values()
    assert (looked_up.name, dict(looked_up.attributes or {})) == ("look up the price", {"sku": "one"})


async def test_an_attempt_tells_the_tokens_that_its_models_used(
    harness: ExecutorHarness, serving: Any, exported: Exported
) -> None:
    await serving("billed")
    run_id = await harness.enqueue("billed", {"messages": [{"role": "user", "content": "go"}]})
    await harness.outcome(run_id)
    attributes = (await exported.attempt(run_id)).attributes
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (17, 3)


async def test_what_fails_is_an_error(harness: ExecutorHarness, serving: Any, exported: Exported) -> None:
    await serving("traced_failure")
    run_id = await harness.enqueue("traced_failure", {"seen": []})
    await harness.outcome(run_id)
    attempt = await exported.attempt(run_id)
    [node] = exported.named("node breaks")
    assert attempt.parent is None, "a run without a trace begins one"
    assert attempt.status.status_code is node.status.status_code is StatusCode.ERROR
    assert [event.attributes["exception.message"] for event in (*attempt.events, *node.events)] == ["broken"] * 2
