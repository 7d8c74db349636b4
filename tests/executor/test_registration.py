"""What an executor tells about its graphs."""

from __future__ import annotations

from engine.executor.describe import describe_graph, digest_of
from engine.executor.loading import load_graphs
from engine.executor.registration import default_assistant_id
from engine.langgraph_json import load
from tests.executor.stage import Stage, eventually


def test_default_assistants_have_the_ids_of_every_server_of_this_api() -> None:
    assert default_assistant_id("noop") == "eebd3bcb-8579-5ef5-b1b7-af92d94a8a11"
    assert default_assistant_id("hitl") == "d2a02ed8-fb92-5e43-81ea-cb78d82caa2f"


async def test_an_executor_registers_its_graphs_and_their_assistants(stage: Stage, serving) -> None:
    await serving("noop", "nothing_here")
    registered = await eventually(lambda: _all(stage, "graph.register", 2))
    by_id = {c.body["graph_id"]: c for c in registered}
    assert by_id["noop"].key == "graph:noop" and by_id["noop"].body["digest"] in by_id["noop"].id
    assert by_id["noop"].body["info"]["out"] == ["items", "n"]
    assert 'has no "nothing_here"' in by_id["nothing_here"].body["info"]["error"]
    (assistant,) = [c for c in await stage.commands("assistant.create") if c.body["graph_id"] == "noop"]
    assert assistant.key == assistant.body["assistant_id"] == default_assistant_id("noop")
    assert assistant.body["metadata"] == {"created_by": "system"} and assistant.body["name"] == "noop"
    assert assistant.body["if_exists"] == "do_nothing"


async def _all(stage: Stage, type_: str, count: int):
    found = await stage.commands(type_)
    return found if len(found) >= count else None


def test_a_graphs_description(stage: Stage) -> None:
    graphs = load_graphs(load(stage.config(noop="noop", parent="parent", seeing="seeing", flow="workflow"))).by_id
    info = {name: describe_graph(graph.compiled, None) for name, graph in graphs.items()}
    schemas = info["noop"]["schemas"]
    assert set(schemas) == {"input", "output", "state", "config", "context"}
    assert set(schemas["input"]["properties"]) == set(schemas["state"]["properties"]) == {"items", "n"}
    assert "tone" in info["seeing"]["schemas"]["context"]["properties"]
    drawing = info["noop"]["drawings"]["0"]
    assert [node["id"] for node in drawing["nodes"]] == ["__start__", "a", "b", "__end__"]
    assert {"source": "a", "target": "b"} in drawing["edges"]
    assert info["noop"]["drawings"]["true"] == drawing and info["noop"]["subgraphs"] == {}
    unfolded = [node["id"] for node in info["parent"]["drawings"]["1"]["nodes"]]
    assert "child:model" in unfolded and info["parent"]["drawings"]["true"] == info["parent"]["drawings"]["1"]
    assert list(info["parent"]["subgraphs"]) == ["child"]
    assert "messages" in info["parent"]["subgraphs"]["child"]["input"]["properties"]
    assert info["flow"]["out"] is not None
    assert digest_of(info["noop"]) == digest_of(describe_graph(graphs["noop"].compiled, None))


def test_a_schema_without_a_json_form_is_null(stage: Stage) -> None:
    (stage.folder / "odd.py").write_text(
        "from typing import Callable, TypedDict\nfrom langgraph.graph import StateGraph, START\n"
        "class S(TypedDict):\n    f: Callable[[int], int]\n"
        "b = StateGraph(S)\nb.add_node('a', lambda s: s)\nb.add_edge(START, 'a')\ng = b.compile()\n"
    )
    graph = load_graphs(load(stage.config(odd="./odd.py:g"))).by_id["odd"]
    info = describe_graph(graph.compiled, "with a function in it")
    assert info["schemas"]["input"] is None and info["schemas"]["state"] is None
    assert info["description"] == "with a function in it" and info["drawings"]["0"]["nodes"]
