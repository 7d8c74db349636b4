"""What an executor tells about its graphs."""

from __future__ import annotations

from tests.executor.executor_harness import ExecutorHarness
from tests.waiting import eventually
from threadlog.engine.executor.graphs.describe import describe_graph, digest_of
from threadlog.engine.executor.graphs.loader import load_graphs
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.user_code.langgraph_json import load


def test_default_assistants_have_the_ids_of_every_server_of_this_api() -> None:
    assert default_assistant_id("noop") == "eebd3bcb-8579-5ef5-b1b7-af92d94a8a11"
    assert default_assistant_id("hitl") == "d2a02ed8-fb92-5e43-81ea-cb78d82caa2f"


async def test_an_executor_registers_its_graphs_and_their_assistants(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "nothing_here")
    registered = await eventually(lambda: _all(harness, "graph.register", 2))
    by_id = {c.body["graph_id"]: c for c in registered}
    assert by_id["noop"].key == "graph:noop" and by_id["noop"].body["digest"] in by_id["noop"].id
    assert by_id["noop"].body["info"]["out"] == ["items", "n"]
    assert 'has no "nothing_here"' in by_id["nothing_here"].body["info"]["error"]
    (assistant,) = [c for c in await harness.commands("assistant.create") if c.body["graph_id"] == "noop"]
    assert assistant.key == assistant.body["assistant_id"] == default_assistant_id("noop")
    assert assistant.body["metadata"] == {"created_by": "system"} and assistant.body["name"] == "noop"
    assert assistant.body["if_exists"] == "do_nothing"


async def _all(harness: ExecutorHarness, type_: str, count: int):
    found = await harness.commands(type_)
    return found if len(found) >= count else None


def test_a_graphs_description(harness: ExecutorHarness) -> None:
    graphs = load_graphs(load(harness.config(noop="noop", parent="parent", seeing="seeing", flow="workflow"))).by_id
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


ODD = """
import dataclasses, typing
import typing_extensions
from typing import Annotated, Callable
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, ConfigDict

class Odd:
    pass

class Typed(typing.TypedDict):
    good: str
    later: Annotated[typing_extensions.NotRequired[int], lambda a, b: b]
    odd: Odd
    odds: list[Odd]
    call: Callable[[int], int]
    _hidden: str
    copy: str

@dataclasses.dataclass
class Data:
    good: str
    odd: Odd = dataclasses.field(default_factory=Odd)
    call: Callable[[int], int] = len
    n: int = 3

class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    good: str
    odd: Odd | None = None
    call: Callable[[int], int] = len
    n: int = 3

def graph(state, context=None):
    b = StateGraph(state, context_schema=context)
    b.add_node("a", lambda s: s)
    b.add_edge(START, "a")
    return b.compile()

class Context(typing.TypedDict):
    good: str
    odd: Odd
    unknown: "Nowhere"

typed, data, model = graph(Typed, Data), graph(Data, Model), graph(Model, Context)

@entrypoint()
def function(given: Odd) -> list[Odd]:
    return []
"""


def test_an_odd_field_costs_its_own_detail_and_no_other_field(harness: ExecutorHarness) -> None:
    (harness.folder / "odd.py").write_text(ODD)
    names = ("typed", "data", "model", "function")
    graphs = load_graphs(load(harness.config(**{name: f"./odd.py:{name}" for name in names}))).by_id
    schemas = {name: describe_graph(graph.compiled, None)["schemas"] for name, graph in graphs.items()}
    for name in ("typed", "data", "model"):
        for kind in ("input", "output", "state", "context", "config"):
            fields = schemas[name][kind]["properties"]
            assert fields["good"] == {"title": "Good", "type": "string"}, (name, kind)
            assert "type" not in fields["odd"], (name, kind)
    for kind in ("input", "output", "state"):
        fields = schemas["typed"][kind]["properties"]
        assert fields["later"] == {"title": "Later", "type": "integer"}
        assert fields["odds"] == {"title": "Odds", "type": "array", "items": {}}
        assert fields["call"] == {"title": "Call"}
        assert fields["_hidden"]["type"] == fields["copy"]["type"] == "string"
    assert "later" not in schemas["typed"]["input"]["required"] and "good" in schemas["typed"]["input"]["required"]
    assert schemas["data"]["input"]["required"] == schemas["model"]["input"]["required"] == ["good"]
    assert schemas["data"]["input"]["properties"]["n"] == schemas["model"]["input"]["properties"]["n"]
    assert schemas["model"]["context"]["properties"]["unknown"] == {"title": "Unknown"}
    assert schemas["function"]["input"] is not None and schemas["function"]["output"] is not None
