"""Getting graphs out of users' code, in every shape they come in, and saying what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from langgraph.pregel import Pregel

from tests.executor.executor_harness import ExecutorHarness
from tests.installed import server_runtime
from threadlog.engine.executor.graphs.loader import GraphLoadError, LoadedGraph, load_graphs, loaded
from threadlog.engine.user_code.langgraph_json import GraphSpec, load

CONFIG = {"configurable": {"thread_id": "T"}}


def graphs_of(harness: ExecutorHarness, *names: str) -> dict[str, LoadedGraph]:
    return dict(load_graphs(load(harness.config(**{name: name for name in names}))).by_id)


async def output(graph: LoadedGraph, access: str = "threads.create_run") -> object:
    async with graph.open(CONFIG, access=access) as opened:
        assert isinstance(opened, Pregel)
        return await opened.ainvoke({"items": [], "n": 2})


async def test_every_shape_of_graph(harness: ExecutorHarness) -> None:
    names = ["noop", "noop_builder", "workflow", "factory", "async_factory", "managed", "managed_sync"]
    graphs = graphs_of(harness, *names)
    assert [graph.error for graph in graphs.values()] == [None] * 7
    for name in ("noop", "noop_builder", "async_factory", "managed", "managed_sync"):
        assert await output(graphs[name]) == {"items": ["x", "y"], "n": 2}, name
    assert await output(graphs["workflow"]) == {"doubled": 4}
    assert await output(graphs["factory"]) == {"items": ["T"], "n": 2}
    (module,) = [m for m in sys.modules.values() if getattr(m, "__file__", None) == str(harness.folder / "graphs.py")]
    assert module.made == ["opened", "closed", "T"]


@server_runtime
async def test_a_factory_is_told_what_it_is_called_for(harness: ExecutorHarness) -> None:
    graph = graphs_of(harness, "runtime_factory")["runtime_factory"]
    assert await output(graph) == {"items": ["run"], "n": 2}
    assert await output(graph, "assistants.read") == {"items": ["read"], "n": 2}


async def test_a_factory_is_called_for_each_run_and_its_context_closed(harness: ExecutorHarness, serving) -> None:
    await serving("managed", "factory")
    for _ in range(2):
        run_id = await harness.enqueue("managed", {"items": []})
        assert (await harness.outcome(run_id))["status"] == "success"
    run_id = await harness.enqueue("factory", {"items": []})
    await harness.outcome(run_id)
    assert (await harness.frames(run_id))[-1] == ("values", {"items": [await harness.thread_of(run_id)]})


async def test_one_broken_graph_stops_no_other(harness: ExecutorHarness, serving) -> None:
    (harness.folder / "broken.py").write_text(
        "import os\n\ndef helper():\n    raise RuntimeError('no key')\n\nhelper()\n"
    )
    (harness.folder / "typo.py").write_text("graph = (\n")
    (harness.folder / "leaves.py").write_text("import sys\nsys.exit(2)\n")
    config = harness.config(
        good="noop", missing="nothing_here", number="not_a_graph", broken="./broken.py:g", typo="./typo.py:g",
        leaves="./leaves.py:g", module="no.such.module:g",
    )  # fmt: skip
    graphs = load_graphs(load(config)).by_id
    assert graphs["good"].error is None
    assert f"RuntimeError: no key ({harness.folder / 'broken.py'}:4)" in str(graphs["broken"].error)
    assert f"({harness.folder / 'typo.py'}:1)" in str(graphs["typo"].error)
    assert "SystemExit: 2" in str(graphs["leaves"].error)
    assert 'has no "nothing_here"' in str(graphs["missing"].error) and "noop" in str(graphs["missing"].error)
    assert "is a int" in str(graphs["number"].error)
    assert "No module named 'no'" in str(graphs["module"].error)
    with pytest.raises(GraphLoadError, match="no key"):
        async with graphs["broken"].open(CONFIG):
            pass


async def test_a_run_on_a_broken_graph_fails_with_the_reason(harness: ExecutorHarness, serving) -> None:
    await serving("noop", "nothing_here")
    run_id = await harness.enqueue("nothing_here", {"items": []})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "error" and 'has no "nothing_here"' in outcome["error"]["message"]
    run_id = await harness.enqueue("noop", {"items": []})
    assert (await harness.outcome(run_id))["status"] == "success"


async def test_a_factory_that_asks_for_the_unknown_or_returns_no_graph(harness: ExecutorHarness) -> None:
    graphs = graphs_of(harness, "wants_too_much", "add")
    with pytest.raises(GraphLoadError, match='asks for "b"'):
        await output(graphs["wants_too_much"])
    with pytest.raises(GraphLoadError, match="returned a function"):
        await output(graphs["add"])


async def test_an_async_function_that_returns_no_graph_is_told_how_it_would_be_an_agent() -> None:
    async def function(question): ...
    async def generator(question):
        yield "text"

    for found in (function, generator):
        graph = loaded(GraphSpec("it", "agent.py", "it", is_file=True), found, Path("."))
        with pytest.raises(GraphLoadError, match="meant as an agent, call its first parameter messages or input"):
            await output(graph)


def test_files_with_the_names_of_other_modules_are_loaded_by_path(harness: ExecutorHarness) -> None:
    for name in ("json", "api", "engine"):
        (harness.folder / f"{name}.py").write_text(
            "from langgraph.graph import StateGraph, START\n"
            f"b = StateGraph(dict)\nb.add_node('{name}', lambda s: s)\nb.add_edge(START, '{name}')\n"
        )
    config = harness.config(one="./json.py:b", two="./api.py:b", three="./engine.py:b")
    graphs = load_graphs(load(config)).by_id
    assert [graph.error for graph in graphs.values()] == [None] * 3
    assert list(graphs["two"].compiled.nodes) == ["__start__", "api"]
    import json

    assert json.loads("1") == 1


def test_a_project_may_have_packages_with_the_names_of_our_folders(harness: ExecutorHarness) -> None:
    for name in ("api", "engine", "projections", "deploy"):
        package = harness.folder / name
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "settings.py").write_text(f"NAME = {name!r}\n")
    (harness.folder / "agent.py").write_text(
        "import api.settings, deploy.settings, engine.settings, projections.settings\n"
        "from langgraph.graph import START, StateGraph\n"
        "names = [m.settings.NAME for m in (api, deploy, engine, projections)]\n"
        "b = StateGraph(dict)\nb.add_node('+'.join(names), lambda s: s)\nb.add_edge(START, '+'.join(names))\n"
    )
    (graph,) = load_graphs(load(harness.config(a="./agent.py:b"))).by_id.values()
    assert graph.error is None
    assert list(graph.compiled.nodes) == ["__start__", "api+deploy+engine+projections"]


def test_graphs_of_one_package_share_their_modules(harness: ExecutorHarness) -> None:
    package: Path = harness.folder / "src" / "my_agents"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "shared.py").write_text("from graphs import noop\n")
    (package / "one.py").write_text("from .shared import noop\n")
    (package / "two.py").write_text("from my_agents.shared import noop\n")
    file = harness.config(one="./src/my_agents/one.py:noop", two="my_agents.two:noop", three="./graphs.py:noop")
    file.write_text(file.read_text().replace('["."]', '[".", "./src"]'))
    graphs = load_graphs(load(file)).by_id
    assert [graph.error for graph in graphs.values()] == [None] * 3
    assert graphs["one"].compiled is graphs["two"].compiled is graphs["three"].compiled
