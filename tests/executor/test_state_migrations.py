"""State migrations: threads of an earlier version of a graph go on with the present one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

from threadlog.deploy.commands.migrate import checked_states
from threadlog.engine.executor.graphs.loader import Graphs, LoadedGraph, load_graphs
from threadlog.engine.executor.state_migrations import StateMigrationFailed, StateMigrations, StateTooNew
from threadlog.engine.user_code.langgraph_json import ConfigError, GraphSpec, load
from threadlog.testing import LocalServer, serve

Graph = CompiledStateGraph[Any, Any, Any, Any]


class First(TypedDict, total=False):
    name: str
    seen: list[str]
    old: str


class Second(TypedDict, total=False):
    first_name: str
    last_name: str
    seen: list[str]


def asks(state: dict[str, Any]) -> dict[str, Any]:
    return {"seen": [*state["seen"], interrupt("?")]}


def first() -> Graph:
    builder = StateGraph(First)
    builder.add_node("ask", asks)
    builder.add_node("say", lambda state: {"seen": [*state["seen"], f"name {state['name']}"]})
    return builder.add_edge(START, "ask").add_edge("ask", "say").compile()


def second() -> Graph:
    builder = StateGraph(Second)
    builder.add_node("ask", asks)
    builder.add_node("say", lambda state: {"seen": [*state["seen"], f"{state['first_name']} / {state['last_name']}"]})
    return builder.add_edge(START, "ask").add_edge("ask", "say").compile()


def to_2(values: dict[str, Any]) -> dict[str, Any]:
    values.pop("old", None)
    values["seen"].append("2")
    return values


def to_3(values: dict[str, Any]) -> dict[str, Any]:
    first_name, _, last_name = values.pop("name").partition(" ")
    return {**values, "first_name": first_name, "last_name": last_name}


STEPS = {"people": {1: (2, to_2), 2: (3, to_3)}}
ADA: dict[str, Any] = {"name": "Ada Lovelace", "seen": [], "old": "x" * 200}


@pytest.fixture
def server(postgres_uri: str) -> Iterator[LocalServer]:
    """It serves the first version of the graph."""
    with ExitStack() as servers:
        yield servers.enter_context(serve(graphs={"people": first()}, database_uri=postgres_uri))


def asked(server: LocalServer, values: dict[str, Any] = ADA) -> str:
    """A thread of the first version that waits for an answer."""
    thread_id: str = server.sync_client.threads.create()["thread_id"]
    server.sync_client.runs.wait(thread_id, "people", input=values)
    return thread_id


def answer(server: LocalServer, thread_id: str, **more: Any) -> Any:
    return server.sync_client.runs.wait(thread_id, "people", command={"resume": "!"}, raise_error=False, **more)


def migrated(server: LocalServer, thread_id: str) -> list[tuple[str, int, int]]:
    return [
        (event["checkpoint_id"], event["from_version"], event["to_version"])
        for event in server.events(thread_id)
        if event["type"] == "state.migrated"
    ]


def test_a_thread_in_flight_goes_on_with_the_new_schema_along_the_whole_chain(server: LocalServer) -> None:
    client, thread_id = server.sync_client, asked(server)
    before = client.threads.get_state(thread_id)
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    assert client.threads.get_state(thread_id) == before, "a read changes nothing"
    values = answer(server, thread_id)
    assert values == {"first_name": "Ada", "last_name": "Lovelace", "seen": ["2", "!", "Ada / Lovelace"]}
    assert migrated(server, thread_id) == [(before["checkpoint"]["checkpoint_id"], 1, 3)]
    state, *_, oldest = client.threads.get_history(thread_id)
    assert state["values"] == values and state["next"] == []
    assert client.threads.get_state(thread_id, checkpoint_id=before["checkpoint"]["checkpoint_id"])["values"] == ADA
    assert oldest["values"] == {}
    again = client.runs.wait(thread_id, "people", input={"last_name": "King"})
    assert again["last_name"] == "King" and len(migrated(server, thread_id)) == 1, "once is enough"
    saved = [event["checkpoint"] for event in server.events(thread_id) if event["type"] == "checkpoint.saved"]
    assert {checkpoint.get("state_version") for checkpoint in saved} == {None, 3}


def test_a_state_that_is_updated_or_forked_is_migrated(server: LocalServer) -> None:
    client, thread_id = server.sync_client, asked(server)
    asking = client.threads.get_state(thread_id)["checkpoint"]
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    client.threads.update_state(thread_id, {"last_name": "King"}, as_node="ask")
    state = client.threads.get_state(thread_id)
    assert (state["values"]["first_name"], state["values"]["last_name"], state["next"]) == ("Ada", "King", ["say"])
    forked = client.runs.wait(thread_id, "people", input={"first_name": "Eve"}, checkpoint=asking)
    assert (forked["first_name"], forked["last_name"], forked["seen"]) == ("Eve", "Lovelace", ["2"])
    assert len(migrated(server, thread_id)) == 2


def test_a_copy_of_a_thread_has_its_version(server: LocalServer) -> None:
    client, thread_id = server.sync_client, asked(server)
    old = client.threads.copy(thread_id)["thread_id"]
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    assert answer(server, old)["last_name"] == "Lovelace"
    new = client.threads.copy(old)["thread_id"]
    assert client.runs.wait(new, "people", input={"first_name": "Eve"})["last_name"] == "Lovelace"
    assert len(migrated(server, old)) == 1 and migrated(server, new) == migrated(server, thread_id) == []


def test_a_migration_that_fails_is_an_error_of_its_run_alone(server: LocalServer) -> None:
    def broken(values: dict[str, Any]) -> dict[str, Any]:
        if values["name"] == "Eve":
            raise KeyError("surname")
        return to_3(values)

    eve, ada = asked(server, {"name": "Eve", "seen": []}), asked(server)
    server.deploy(graphs={"people": second()}, migrations={"people": {1: (2, to_2), 2: (3, broken)}})
    error = answer(server, eve)["__error__"]
    assert error["error"] == "StateMigrationFailed"
    assert "migrated from version 2 to 3 of graph people: KeyError: 'surname'" in error["message"]
    assert answer(server, ada)["last_name"] == "Lovelace"
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    assert answer(server, eve)["last_name"] == "", "the thread is as it was, and goes on with code that can"


def test_code_that_is_behind_a_thread_leaves_it_alone(server: LocalServer) -> None:
    thread_id = asked(server)
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    server.sync_client.threads.update_state(thread_id, {"last_name": "King"}, as_node="say")
    server.deploy(graphs={"people": first()})
    error = server.sync_client.runs.wait(thread_id, "people", input=ADA, raise_error=False)["__error__"]
    assert error["error"] == "StateTooNew" and "has version 3" in error["message"] and "up to 1" in error["message"]
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    assert server.sync_client.threads.get_state(thread_id)["values"]["last_name"] == "King"


def test_another_graphs_state_on_the_same_thread_is_left_alone(postgres_uri: str) -> None:
    with serve(graphs={"people": first(), "other": first()}, database_uri=postgres_uri) as server:
        thread_id = asked(server)
        server.sync_client.runs.wait(thread_id, "other", input={"name": "Bob", "seen": []})
        server.deploy(graphs={"people": second(), "other": first()}, migrations=STEPS)
        values = server.sync_client.runs.wait(thread_id, "other", command={"resume": "!"})
        assert values["name"] == "Bob" and migrated(server, thread_id) == []


def test_history_in_a_node_has_the_new_values(server: LocalServer) -> None:
    seen: list[dict[str, Any]] = []

    async def look(state: Second, config: RunnableConfig) -> dict[str, Any]:
        saver: BaseCheckpointSaver[Any] = config["configurable"]["__pregel_checkpointer"]
        thread = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
        seen.extend([found.checkpoint["channel_values"] async for found in saver.alist(thread)])
        return {}

    builder = StateGraph(Second).add_node("ask", asks).add_node("say", look)
    thread_id = asked(server)
    server.deploy(graphs={"people": builder.add_edge(START, "ask").add_edge("ask", "say").compile()}, migrations=STEPS)
    assert "first_name" in answer(server, thread_id)
    assert len(seen) >= 3 and all("name" not in values for values in seen if "seen" in values)


class Child(TypedDict, total=False):
    note: str


def with_child(version: int) -> Graph:
    def child_node(state: dict[str, Any]) -> dict[str, Any]:
        return {"note": f"{interrupt('child?')} {state['note'] if version == 1 else state['text']}"}

    class NewChild(TypedDict, total=False):
        note: str
        text: str

    child = StateGraph(Child if version == 1 else NewChild).add_node("begin", lambda state: {"note": "old"})
    child.add_node("node", child_node)
    child.add_edge(START, "begin").add_edge("begin", "node")
    parent = StateGraph(Child).add_node("child", child.compile())
    return parent.add_edge(START, "child").compile()


def test_a_function_of_two_parameters_migrates_subgraphs_too(postgres_uri: str) -> None:
    spaces: list[tuple[str, ...]] = []

    def migrate(values: dict[str, Any], namespace: tuple[str, ...]) -> dict[str, Any]:
        spaces.append(namespace)
        if namespace == ("child",):
            values["text"] = values["note"].upper()
        return values

    with serve(graphs={"people": with_child(1)}, database_uri=postgres_uri) as server:
        thread_id = asked(server, {"note": ""})
        server.deploy(graphs={"people": with_child(2)}, migrations={"people": {1: (2, migrate)}})
        assert answer(server, thread_id)["note"] == "! OLD"
        assert set(spaces) == {(), ("child",)}


# --- the functions alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda values: None, "returned NoneType, not the new values"),
        (lambda values: {"branch:to:x": 1}, "returned branch:to:x, which is LangGraph's own"),
        (lambda values: {1: 2}, "returned dict, not the new values"),
        (lambda values: 1 / 0, "ZeroDivisionError: division by zero (test_state_migrations.py"),
    ],
)
def test_what_a_function_may_not_do(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(StateMigrationFailed) as failed:
        StateMigrations("g", {1: (2, function)}).migrated("", 1, {})
    says, _, place = says.partition(" (")
    assert says in str(failed.value) and place in str(failed.value)


def test_which_checkpoints_concern_a_graph() -> None:
    migrations = StateMigrations("g", {1: (2, to_2), 2: (3, to_3)})
    mine = {"graph_id": "g"}
    assert migrations.present == 3 and StateMigrations("g").present == 1
    assert migrations.concern("", {}, mine) and migrations.concern("", {"state_version": 2}, mine)
    assert not migrations.concern("", {"state_version": 3}, mine)
    assert not migrations.concern("", {}, {"graph_id": "other"}) and not migrations.concern("", {}, {})
    assert not migrations.concern("child:1", {}, mine), "no function takes a namespace"
    with pytest.raises(StateTooNew):
        migrations.concern("", {"state_version": 4}, mine)


# --- the dry run ------------------------------------------------------------------------------------------------------


def graphs_of(graph: Graph, steps: Any) -> Graphs:
    spec = GraphSpec("people", "", "", False)
    migrations = StateMigrations("people", steps)
    return Graphs({"people": LoadedGraph(spec, compiled=graph, migrations=migrations)})


async def checks(server: LocalServer, graph: Graph, steps: Any) -> list[tuple[str, int, int, str | None]]:
    found = checked_states(server.database_uri, graphs_of(graph, steps), ["people"])
    return [(state.thread_id, state.from_version, state.to_version, state.problem) async for state in found]


async def test_the_dry_run_tells_what_would_become_of_every_thread(server: LocalServer) -> None:
    ada = asked(server)
    eve = asked(server, {"name": "Eve", "seen": []})
    server.deploy(graphs={"people": second()}, migrations=STEPS)
    answer(server, ada)
    events = len(server.events())
    assert sorted(await checks(server, second(), STEPS["people"])) == sorted([(ada, 3, 3, None), (eve, 1, 3, None)])
    ((_, _, _, problem),) = [found for found in await checks(server, second(), {1: (3, to_2)}) if found[0] == eve]
    assert problem == "The migrated state has name, which the graph has not."
    ((_, _, _, problem),) = [
        found for found in await checks(server, second(), {1: (3, lambda values: {"seen": open})}) if found[0] == eve
    ]
    assert problem is not None and "can't be stored: seen" in problem
    ((_, _, _, problem),) = [found for found in await checks(server, first(), {}) if found[0] == ada]
    assert problem is not None and "has version 3" in problem
    assert len(server.events()) == events, "nothing is written"


@pytest.mark.server
def test_the_command(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "people.py").write_text(
        "from typing import TypedDict\n"
        "from langgraph.graph import START, StateGraph\n"
        "class Second(TypedDict, total=False):\n    first_name: str\n    seen: list\n"
        "graph = StateGraph(Second).add_node('ask', lambda state: {}).add_edge(START, 'ask')\n"
        "def to_2(values):\n    return {'first_name': values['name'].split()[1], 'seen': values['seen']}\n"
    )
    steps = {"people": [{"from": 1, "to": 2, "path": "./people.py:to_2"}]}
    config = {"dependencies": ["."], "graphs": {"people": "./people.py:graph"}, "migrations": steps}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    ada = asked(server)

    def migrate(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "threadlog.deploy.cli", "migrate", *options],
            cwd=tmp_path,
            env={**os.environ, "DATABASE_URI": server.database_uri},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    done = migrate("--check")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [
        ["graph", "from", "to", "states", "failed"], ["people", "1", "2", "1", "0"],
    ]  # fmt: skip
    assert done.stdout.endswith("Every state can be migrated.\n")
    eve = asked(server, {"name": "Eve", "seen": []})
    done = migrate("--check", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["states"] == [{"graph_id": "people", "from_version": 1, "to_version": 2, "states": 2, "failed": 1}]
    (problem,) = report["problems"]
    assert problem["thread_id"] == eve != ada and "IndexError" in problem["problem"]
    done = migrate()
    assert done.returncode == 1 and "there is only" in done.stderr


# --- the section ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (7, "migrations: expected an object"),
        ({"nobody": []}, "migrations.nobody: `graphs` has no such graph."),
        ({"people": []}, "migrations.people: expected a list"),
        ({"people": [{"from": 1, "to": 2}]}, 'migrations.people.0: expected an object with "from", "to" and "path"'),
        ({"people": [(0, 2)]}, "migrations.people.0.from: expected a version"),
        ({"people": [(1, "2")]}, "migrations.people.0.to: expected a version"),
        ({"people": [(1, 1)]}, "migrations.people.0.to: 1 is no later version than 1."),
        ({"people": [(1, 2), (1, 3)]}, "two steps begin at version 1"),
        ({"people": [(2, 3)]}, "no step begins at version 1"),
        ({"people": [(1, 2), (3, 4)]}, "version 4 can't be reached from version 2: no step begins there."),
        ({"people": [{"from": 1, "to": 2, "path": "./gone.py:to_2"}]}, "gone.py is no Python file"),
        ({"people": [{"from": 1, "to": 2, "path": "to_2"}]}, "does not name an object"),
    ],
)
def test_a_section_that_can_not_be_used_is_refused_at_start(tmp_path: Path, section: Any, says: str) -> None:
    def step(given: Any) -> Any:
        return {"from": given[0], "to": given[1], "path": "./code.py:to"} if isinstance(given, tuple) else given

    if isinstance(section, dict):
        section = {name: [step(given) for given in steps] for name, steps in section.items()}
    (tmp_path / "code.py").write_text("graph = None\n")
    config = {"graphs": {"people": "./code.py:graph"}, "migrations": section}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as refused:
        load(tmp_path)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "to_2 is no function"),
        ("async def to_2(values): ...", "to_2 is no function"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_graph_whose_migrations_do_not_load_is_broken(tmp_path: Path, code: str, says: str) -> None:
    (tmp_path / "graph_of_test.py").write_text(
        "from tests.executor.test_state_migrations import first\ngraph = first()\n"
    )
    name = f"steps_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    steps = {"people": [{"from": 1, "to": 2, "path": f"./{name}.py:to_2"}]}
    config = {"graphs": {"people": "./graph_of_test.py:graph"}, "migrations": steps}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    before = list(sys.path)
    try:
        (broken,) = load_graphs(load(tmp_path)).broken
    finally:
        sys.path[:] = before
        sys.modules.pop("graph_of_test", None)
    assert broken.error is not None and broken.error.startswith("graph people: its migrations: ")
    assert says in broken.error


def test_the_functions_of_the_page(server: LocalServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "migrations.md").read_text()
    functions, of_subgraphs, test = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(functions + of_subgraphs, names)
    assert names["to_2"]({"links": [1]}, ("research",)) == {"sources": [1]}
    config = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    steps = {step["from"]: (step["to"], names[step["path"].split(":")[1]]) for step in config["migrations"]["support"]}
    migrations = StateMigrations("support", steps)
    values = migrations.migrated("", 1, {"name": "Ada Lovelace", "score": 1})
    assert values == {"first_name": "Ada", "last_name": "Lovelace"}
    exec(test, names)
    assert callable(names["test_threads_survive_the_deployment"])
