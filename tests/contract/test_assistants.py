"""Contract statements 13 to 30: assistants."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4, uuid5

import httpx
import orjson
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.installed import bulk_client

from .conftest import APP
from .refusals import refused

GRAPHS = orjson.loads((APP / "langgraph.json").read_bytes())["graphs"]


def default_assistant(graph_id: str) -> str:
    return str(uuid5(UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), graph_id))


@pytest.mark.contract(13)
async def test_every_graph_has_one_system_assistant(client: LangGraphClient) -> None:
    assistants = await client.assistants.search(metadata={"created_by": "system"}, limit=1000)
    assert {found["graph_id"]: found["assistant_id"] for found in assistants} == {
        graph_id: default_assistant(graph_id) for graph_id in GRAPHS
    }
    assert len(assistants) == len(GRAPHS)
    noop = await client.assistants.get("eebd3bcb-8579-5ef5-b1b7-af92d94a8a11")
    assert (noop["graph_id"], noop["name"], noop["version"]) == ("noop", "noop", 1)
    assert noop["description"] == GRAPHS["noop"]["description"]


@pytest.mark.contract(14)
async def test_a_run_takes_the_graph_name_or_the_assistant_id(client: LangGraphClient, thread_id: str) -> None:
    by_name = await client.runs.create(thread_id, "noop", input={"items": []})
    by_id = await client.runs.create(thread_id, default_assistant("noop"), input={"items": []})
    assert by_name["assistant_id"] == by_id["assistant_id"] == default_assistant("noop")


@pytest.mark.contract(15)
async def test_creating_for_an_unknown_graph_names_the_known_ones(client: LangGraphClient) -> None:
    with refused(NotFoundError, "Graph 'nope' not found") as unknown_graph:
        await client.assistants.create("nope")
    assert "noop" in unknown_graph.value.message and "functional" in unknown_graph.value.message


@pytest.mark.contract(16)
async def test_an_id_is_created_once(client: LangGraphClient) -> None:
    chosen = str(uuid4())
    first = await client.assistants.create("noop", assistant_id=chosen, name="first", metadata={"n": 1})
    assert (first["assistant_id"], first["version"], first["metadata"]) == (chosen, 1, {"n": 1})
    with pytest.raises(ConflictError):
        await client.assistants.create("noop", assistant_id=chosen)
    again = await client.assistants.create("four", assistant_id=chosen, name="second", if_exists="do_nothing")
    assert again == first


@pytest.mark.contract(17)
async def test_context_and_configurable_mirror_each_other(client: LangGraphClient) -> None:
    with refused(BadRequestError, "configurable and context"):
        await client.assistants.create("inspect", {"configurable": {"model": "a"}}, context={"model": "b"})
    by_context = await client.assistants.create("inspect", context={"model": "a"})
    by_config = await client.assistants.create("inspect", {"configurable": {"model": "a"}})
    for assistant in (by_context, by_config):
        assert assistant["context"] == {"model": "a"}
        assert assistant["config"]["configurable"] == {"model": "a"}


@pytest.mark.contract(17)
@pytest.mark.parametrize("empty", ["context", "configurable"])
async def test_an_empty_one_of_the_two_is_not_given(http: httpx.AsyncClient, thread_id: str, empty: str) -> None:
    context, configurable = ({}, {"model": "a"}) if empty == "context" else ({"model": "a"}, {})
    body = {"config": {"configurable": configurable, "tags": ["kept"]}, "context": context}
    made = (await http.post("/assistants", json={"graph_id": "inspect", **body})).json()
    patched = (await http.patch(f"/assistants/{made['assistant_id']}", json=body)).json()
    for assistant in (made, patched):
        assert assistant["context"] == assistant["config"]["configurable"] == {"model": "a"}
        assert assistant["config"]["tags"] == ["kept"]
    answer = await http.post(
        f"/threads/{thread_id}/runs", json={"assistant_id": "noop", "input": {"items": []}, **body}
    )
    kwargs = answer.json()["kwargs"]
    assert kwargs["context"] == {"model": "a"}
    assert kwargs["config"]["configurable"]["model"] == "a"
    cleared = (await http.patch(f"/assistants/{made['assistant_id']}", json={"context": {}})).json()
    assert cleared["context"] == cleared["config"]["configurable"] == {}


@pytest.mark.contract(18)
async def test_patch_makes_a_new_version(client: LangGraphClient) -> None:
    config = {"configurable": {"a": 1}, "tags": ["old"]}
    made = await client.assistants.create("noop", config, metadata={"a": 1, "deep": {"x": 1}}, name="before")
    patched = await client.assistants.update(
        made["assistant_id"], config={"configurable": {"b": 2}}, metadata={"b": 2, "deep": {"y": 2}}, description="new"
    )
    assert patched["version"] == 2
    assert patched["metadata"] == {"a": 1, "b": 2, "deep": {"y": 2}}
    assert patched["config"] == {"configurable": {"b": 2}}
    assert (patched["name"], patched["description"]) == ("before", "new")
    assert patched == await client.assistants.get(made["assistant_id"])
    assert patched["updated_at"] > made["updated_at"] and patched["created_at"] == made["created_at"]
    assert (await client.assistants.update(made["assistant_id"]))["version"] == 3


@pytest.mark.contract(18)
async def test_each_of_several_clients_is_told_of_the_version_it_has_made(client: LangGraphClient) -> None:
    assistant_id = (await client.assistants.create("noop"))["assistant_id"]
    patched = await asyncio.gather(*(client.assistants.update(assistant_id, name=f"by {n}") for n in range(12)))
    assert [assistant["name"] for assistant in patched] == [f"by {n}" for n in range(12)]
    assert sorted(assistant["version"] for assistant in patched) == list(range(2, 14))
    last = max(patched, key=lambda assistant: assistant["version"])
    assert await client.assistants.get(assistant_id) == last


@pytest.mark.contract(18)
async def test_patch_of_an_unknown_assistant_or_graph_is_404(client: LangGraphClient) -> None:
    with pytest.raises(NotFoundError):
        await client.assistants.update(str(uuid4()), name="x")
    made = await client.assistants.create("noop")
    with pytest.raises(NotFoundError):
        await client.assistants.update(made["assistant_id"], graph_id="nope")
    moved = await client.assistants.update(made["assistant_id"], graph_id="four")
    assert moved["graph_id"] == "four"


@pytest.mark.contract(19)
async def test_versions_are_listed_newest_first(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop", name="one")
    for name in ("two", "three"):
        await client.assistants.update(made["assistant_id"], name=name)
    versions = await client.assistants.get_versions(made["assistant_id"])
    assert [(row["version"], row["name"]) for row in versions] == [(3, "three"), (2, "two"), (1, "one")]
    page = await client.assistants.get_versions(made["assistant_id"], limit=1, offset=1)
    assert [row["version"] for row in page] == [2]
    with pytest.raises(NotFoundError):
        await client.assistants.get_versions(str(uuid4()))


@pytest.mark.contract(20)
async def test_an_older_version_can_be_made_current(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop", {"tags": ["one"]}, metadata={"v": 1}, name="one")
    await client.assistants.update(made["assistant_id"], config={"tags": ["two"]}, metadata={"v": 2}, name="two")
    back = await client.assistants.set_latest(made["assistant_id"], 1)
    assert (back["version"], back["name"], back["metadata"]) == (1, "one", {"v": 1})
    assert back["config"]["tags"] == ["one"]
    assert await client.assistants.get(made["assistant_id"]) == back
    assert len(await client.assistants.get_versions(made["assistant_id"])) == 2


@pytest.mark.contract(20)
async def test_a_version_made_after_going_back_gets_a_number_of_its_own(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop", name="one")
    await client.assistants.update(made["assistant_id"], name="two")
    await client.assistants.set_latest(made["assistant_id"], 1)
    third = await client.assistants.update(made["assistant_id"], metadata={"third": True})
    assert (third["version"], third["name"]) == (3, "one")
    versions = await client.assistants.get_versions(made["assistant_id"])
    assert [(row["version"], row["name"]) for row in versions] == [(3, "one"), (2, "two"), (1, "one")]


@pytest.mark.contract(20)
@pytest.mark.star
async def test_the_context_goes_back_too(client: LangGraphClient) -> None:
    made = await client.assistants.create("inspect", context={"model": "one"})
    await client.assistants.update(made["assistant_id"], context={"model": "two"})
    back = await client.assistants.set_latest(made["assistant_id"], 1)
    assert back["context"] == {"model": "one"}
    values = await client.runs.wait(None, made["assistant_id"], input={})
    assert values["seen"]["context"]["model"] == "one"


@pytest.mark.contract(21)
async def test_an_unknown_version_is_404(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop")
    with refused(NotFoundError, "99"):
        await client.assistants.set_latest(made["assistant_id"], 99)


@pytest.mark.contract(22)
async def test_search_filters_by_metadata_graph_and_name(client: LangGraphClient) -> None:
    mark = str(uuid4())
    both = await client.assistants.create("noop", metadata={"mark": mark, "deep": {"a": 1, "b": 2}}, name="Blue Whale")
    other = await client.assistants.create("four", metadata={"mark": mark}, name="blue bird")

    async def found(**filters: object) -> set[str]:
        rows = await client.assistants.search(**{"metadata": {"mark": mark}, **filters})
        return {row["assistant_id"] for row in rows}

    assert await found() == {both["assistant_id"], other["assistant_id"]}
    assert await found(metadata={"mark": mark, "deep": {"b": 2}}) == {both["assistant_id"]}
    assert await found(metadata={"mark": mark, "deep": {"b": 3}}) == set()
    assert await found(graph_id="four") == {other["assistant_id"]}
    assert await found(name="WHALE") == {both["assistant_id"]}
    assert await found(name="blue") == {both["assistant_id"], other["assistant_id"]}
    assert await found(name="b%e") == set()


@pytest.mark.contract(23)
async def test_select_returns_only_those_fields(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop", metadata={"mark": str(uuid4())})
    rows = await client.assistants.search(metadata=made["metadata"], select=["assistant_id", "name"])
    assert rows == [{"assistant_id": made["assistant_id"], "name": made["name"]}]
    with pytest.raises(UnprocessableEntityError):
        await client.assistants.search(select=["password"])  # type: ignore[list-item]


@pytest.mark.contract(24)
async def test_paging_through_equal_sort_keys_neither_repeats_nor_skips(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    made = {(await client.assistants.create("noop", metadata=mark, name="same"))["assistant_id"] for _ in range(7)}
    for sort_by in ("name", "graph_id", "created_at"):
        pages = [
            await client.assistants.search(metadata=mark, sort_by=sort_by, limit=2, offset=offset)
            for offset in range(0, 8, 2)
        ]
        seen = [row["assistant_id"] for page in pages for row in page]
        assert len(seen) == 7 and set(seen) == made


@pytest.mark.contract(25)
async def test_count_equals_what_the_search_returns(client: LangGraphClient) -> None:
    mark = {"mark": str(uuid4())}
    for graph_id, name in (("noop", "one"), ("noop", "two"), ("four", "one")):
        await client.assistants.create(graph_id, metadata=mark, name=name)
    for filters in ({}, {"graph_id": "noop"}, {"name": "ON"}, {"graph_id": "four", "name": "two"}):
        rows = await client.assistants.search(metadata=mark, **filters)
        assert await client.assistants.count(metadata=mark, **filters) == len(rows)
    assert await client.assistants.count(metadata=mark) == 3


@pytest.mark.contract(26)
async def test_a_graph_is_drawn_and_xray_expands_subgraphs(client: LangGraphClient) -> None:
    graph = await client.assistants.get_graph(default_assistant("chat_parent"))
    assert {node["id"] for node in graph["nodes"]} == {"__start__", "child", "__end__"}
    assert {(edge["source"], edge["target"]) for edge in graph["edges"]} == {
        ("__start__", "child"),
        ("child", "__end__"),
    }
    expanded = await client.assistants.get_graph(default_assistant("chat_parent"), xray=True)
    assert "child:model" in {node["id"] for node in expanded["nodes"]}
    deep = await client.assistants.get_graph("grandparent", xray=True)
    assert "parent:child:model" in {node["id"] for node in deep["nodes"]}
    shallow = await client.assistants.get_graph("grandparent", xray=1)
    assert "parent:child" in {node["id"] for node in shallow["nodes"]}


@pytest.mark.contract(26)
async def test_conditional_edges_are_marked(client: LangGraphClient) -> None:
    graph = await client.assistants.get_graph("agent")
    conditional = {(edge["source"], edge["target"]) for edge in graph["edges"] if edge.get("conditional")}
    assert conditional == {("model", "tools"), ("model", "__end__")}


@pytest.mark.contract(27)
async def test_a_bad_xray_is_422(http: httpx.AsyncClient) -> None:
    for value in ("0", "-1", "deep"):
        answer = await http.get(f"/assistants/{default_assistant('chat_parent')}/graph?xray={value}")
        assert answer.status_code == 422
        assert "Invalid xray value" in answer.json()["detail"]


@pytest.mark.contract(28)
async def test_subgraphs_are_found_by_namespace(client: LangGraphClient) -> None:
    assistant_id = default_assistant("grandparent")
    assert set(await client.assistants.get_subgraphs(assistant_id)) == {"parent"}
    everything = await client.assistants.get_subgraphs(assistant_id, recurse=True)
    assert set(everything) == {"parent", "parent|child"}
    assert everything["parent|child"]["input_schema"]["properties"].keys() == {"messages"}
    assert set(await client.assistants.get_subgraphs(assistant_id, namespace="parent")) == {"parent"}
    assert await client.assistants.get_subgraphs(assistant_id, namespace="nowhere") == {}


@pytest.mark.contract(180)
async def test_a_field_that_no_schema_can_express_takes_no_other_away(client: LangGraphClient) -> None:
    schemas = await client.assistants.get_schemas(default_assistant("opaque"))
    assert schemas["graph_id"] == "opaque"
    for kind in ("input_schema", "output_schema", "state_schema"):
        fields = schemas[kind]["properties"]
        assert fields["text"]["type"] == "string" and "handler" in fields
    described = await client.assistants.get_schemas(default_assistant("inspect"))
    assert "seen" in described["state_schema"]["properties"]
    assert {"model", "tone"} <= set(described["context_schema"]["properties"])


@pytest.mark.contract(30)
async def test_a_deleted_assistant_is_gone(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop")
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], made["assistant_id"], input={"items": []})
    await client.assistants.delete(made["assistant_id"])
    with pytest.raises(NotFoundError):
        await client.assistants.get(made["assistant_id"])
    with pytest.raises(NotFoundError):
        await client.assistants.delete(made["assistant_id"])
    assert (await client.threads.get(thread["thread_id"]))["values"] == {"items": ["a", "b"]}


@bulk_client
@pytest.mark.contract(30)
async def test_its_threads_go_with_it_when_asked(client: LangGraphClient) -> None:
    made = await client.assistants.create("noop")
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], made["assistant_id"], input={"items": []})
    await client.assistants.delete(made["assistant_id"], delete_threads=True)
    with pytest.raises(NotFoundError):
        await client.threads.get(thread["thread_id"])
