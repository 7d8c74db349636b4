"""What the application says holds where the client said nothing (statements 172, 174, 175)."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph._internal._config import DEFAULT_RECURSION_LIMIT
from langgraph_sdk.client import LangGraphClient

from .test_assistants import default_assistant


async def seen(client: LangGraphClient, graph: str, **options: Any) -> dict[str, Any]:
    return (await client.runs.wait(None, graph, input={}, **options))["seen"]


@pytest.mark.contract(174)
@pytest.mark.parametrize(("graph", "limit"), [("unbound", int(DEFAULT_RECURSION_LIMIT)), ("bound", 50)])
async def test_the_limit_is_the_graphs_own_else_langgraphs(client: LangGraphClient, graph: str, limit: int) -> None:
    # LangGraph shows nodes no limit that is its default
    assert await seen(client, graph) == {
        "recursion_limit": 50 if graph == "bound" else None,
        "remaining": limit - 1,
        "tags": ["bound"] if graph == "bound" else None,
        "context": ["Defaults", {"model": "default", "tone": None}] if graph == "unbound" else None,
        "extra": None,
    }
    assert (await seen(client, graph, config={"recursion_limit": 7}))["remaining"] == 6


@pytest.mark.contract(174)
@pytest.mark.star  # through astream_events the reference server runs with LangChain's 25
@pytest.mark.parametrize(("graph", "limit"), [("unbound", int(DEFAULT_RECURSION_LIMIT)), ("bound", 50)])
async def test_the_limit_is_the_same_when_events_are_streamed(client: LangGraphClient, graph: str, limit: int) -> None:
    values = [
        part.data
        async for part in client.runs.stream(None, graph, input={}, stream_mode=["events", "values"])
        if part.event == "values"
    ]
    assert values[-1]["seen"]["remaining"] == limit - 1


@pytest.mark.contract(174)
async def test_what_nobody_gave_is_not_in_the_run(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "bound", input={})
    assert not {"recursion_limit", "run_name", "tags"} & run["kwargs"]["config"].keys()
    await client.runs.join(thread_id, run["run_id"])
    thread = await client.threads.get(thread_id)
    assert not {"recursion_limit", "run_name", "tags"} & thread["config"].keys()


@pytest.mark.contract(175)
@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("unbound", "unbound"),
        ("called", "A name of its own"),
        ("bound", "Bound"),
        ("uncompiled", "uncompiled"),
        ("built", "Made for this run"),
    ],
)
async def test_the_root_run_is_named_after_the_graph(client: LangGraphClient, graph: str, name: str) -> None:
    async def root(config: dict | None) -> str:
        state = {"items": []} if graph == "uncompiled" else {}
        events = [
            part.data
            async for part in client.runs.stream(None, graph, input=state, config=config, stream_mode="events")
            if part.event == "events"
        ]
        return str(events[0]["name"])

    assert await root(None) == name
    assert await root({"run_name": "the client's"}) == "the client's"


@pytest.mark.contract(175)
@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("unbound", "unbound"),
        ("called", "A name of its own"),
        ("bound", "bound"),
        ("uncompiled", "uncompiled"),
        ("built", "built"),
    ],
)
async def test_the_default_assistant_is_named_after_the_compiled_graph(
    client: LangGraphClient, graph: str, name: str
) -> None:
    assert (await client.assistants.get(default_assistant(graph)))["name"] == name


@pytest.mark.contract(172)
@pytest.mark.parametrize(
    ("graph", "given", "context"),
    [
        ("unbound", None, ["Defaults", {"model": "default", "tone": None}]),
        ("unbound", {}, ["Defaults", {"model": "default", "tone": None}]),
        ("unbound", {"unknown": 1}, ["Defaults", {"model": "default", "tone": None}]),
        ("unbound", {"model": "big", "unknown": 1}, ["Defaults", {"model": "big", "tone": None}]),
        ("modelled", None, ["Model", {"model": "default"}]),
        ("modelled", {"model": "big", "unknown": 1}, ["Model", {"model": "big"}]),
        ("demanding", {"key": "k", "unknown": 1}, ["Demanding", {"key": "k", "model": "default"}]),
        ("bound", None, None),
        ("bound", {"anything": 1}, {"anything": 1}),
    ],
)
async def test_the_context_is_what_the_schema_makes_of_it(
    client: LangGraphClient, graph: str, given: Any, context: Any
) -> None:
    found = await seen(client, graph, context=given)
    assert found["context"] == context
    assert not found["extra"]


@pytest.mark.contract(172)
@pytest.mark.star  # a TypedDict of typing_extensions is filtered by the reference server, one of typing is not
@pytest.mark.parametrize("given", [None, {"unknown": 1}, {"model": "big", "unknown": 1}])
async def test_a_typed_dict_takes_everything(client: LangGraphClient, given: Any) -> None:
    assert (await seen(client, "loose", context=given))["context"] == given


@pytest.mark.contract(172)
@pytest.mark.parametrize("given", [None, {"unknown": 1}])
async def test_a_missing_required_field_is_the_runs_error(client: LangGraphClient, given: Any) -> None:
    with pytest.raises(Exception, match="missing 1 required positional argument: 'key'"):
        await client.runs.wait(None, "demanding", input={}, context=given)
