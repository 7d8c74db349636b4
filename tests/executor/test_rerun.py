"""Reruns: past runs of a test server with the same code and with other code, answered from the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Send, interrupt

from tests.testing.test_scenario import asks, trip_graph
from threadlog.deploy.commands.rerun import seconds_of
from threadlog.engine.executor.graphs.loader import Graphs, loaded
from threadlog.engine.executor.rerun.compare import _differences
from threadlog.engine.executor.rerun.record import NoSuchRun, runs_since
from threadlog.engine.executor.rerun.rerun import RunComparison, rerun
from threadlog.engine.executor.state_migrations import StateMigrations
from threadlog.engine.user_code.langgraph_json import GraphSpec
from threadlog.testing import LocalServer, ScriptedChatModel, call, serve

Start = Callable[..., LocalServer]


@pytest.fixture
def served(postgres_uri: str) -> Iterator[Start]:
    with ExitStack() as servers:
        yield lambda graph: servers.enter_context(serve(graphs={"agent": graph}, database_uri=postgres_uri))


async def compare(server: LocalServer, run_id: str, graph: Any, **options: Any) -> RunComparison:
    """A rerun that could not write: its connections are read-only."""
    migrations = options.pop("migrations", StateMigrations("agent"))
    spec = GraphSpec("agent", "", "", False)
    graphs = Graphs({"agent": replace(loaded(spec, graph, Path()), migrations=migrations)})
    read_only = {"default_transaction_read_only": "on"}
    events = len(server.events())
    async with asyncpg.create_pool(server.database_uri, min_size=1, max_size=2, server_settings=read_only) as pool:
        found = await rerun(pool, graphs, run_id, api_url=server.url, ignored=options.get("ignored", ()))
    assert len(server.events()) == events
    return found


async def ran(server: LocalServer, thread_id: str | None = None, **request: Any) -> tuple[str, str]:
    """A run to its end; its thread and its id."""
    client = server.client
    thread_id = thread_id or (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "agent", **request)
    await client.runs.join(thread_id, run["run_id"])
    return thread_id, run["run_id"]


def differences(comparison: RunComparison) -> list[tuple[str, str]]:
    return [(task.node, detail) for task in comparison.tasks if task.verdict == "different" for detail in task.details]


async def test_the_same_code_does_the_same_and_asks_no_model_and_no_tool(served: Start) -> None:
    server = served(trip_graph(ScriptedChatModel([call("weather", city="Porto"), "Sunny."])))
    _, run_id = await ran(server, input=asks("Porto?"))
    silent = ScriptedChatModel()
    comparison = await compare(server, run_id, trip_graph(silent))
    assert differences(comparison) == [] and comparison.verdict == "same"
    assert [task.node for task in comparison.tasks] == ["__start__", "talk", "tools", "talk", "book"]
    assert silent.calls == []


async def test_where_todays_code_does_otherwise_is_told_by_step_and_node(served: Start) -> None:
    def graph(prefix: str, *, polite: bool) -> Any:
        def write(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(f"{prefix} {state['messages'][-1].text}")]}

        builder = StateGraph(MessagesState).add_node("write", write)
        builder.add_node("thank", lambda state: {"messages": [AIMessage("Thanks.")]})
        builder.add_node("end", lambda state: {})
        builder.add_edge(START, "write")
        builder.add_conditional_edges("write", lambda state: "thank" if polite else "end", ["thank", "end"])
        return builder

    server = served(graph("You said", polite=True))
    _, run_id = await ran(server, input=asks("Hi"))
    assert (await compare(server, run_id, graph("You said", polite=True))).verdict == "same"
    comparison = await compare(server, run_id, graph("Did you say", polite=False))
    found = dict(differences(comparison))
    assert comparison.verdict == "different" and set(found) == {"write"}
    details = [detail for _, detail in differences(comparison)]
    assert "messages[0].content: recorded 'You said Hi', today 'Did you say Hi'" in details
    assert "today it does not go to thank" in details and "today it goes to end" in details
    (written,) = [task for task in comparison.tasks if task.verdict == "different"]
    assert [(c.path, c.recorded, c.today, c.has) for c in written.changes] == [
        ("messages[0].content", "You said Hi", "Did you say Hi", ("recorded", "today")),
        ("next", "thank", None, ("recorded",)),
        ("next", None, "end", ("today",)),
    ]
    # Each step begins where the recorded one began: what follows a difference does not differ for that.
    assert [task.verdict for task in comparison.tasks] == ["same", "different", "same"]
    only = await compare(server, run_id, graph("Did you say", polite=True), ignored=["messages"])
    assert only.verdict == "same"


async def test_a_run_that_answered_a_question_has_the_answer(served: Start) -> None:
    server = served(trip_graph(ScriptedChatModel(["Booking."])))
    thread_id, first = await ran(server, input=asks("book"))
    _, second = await ran(server, thread_id, command={"resume": "by train"})
    for run_id, nodes in ((first, ["__start__", "talk", "book"]), (second, ["book"])):
        comparison = await compare(server, run_id, trip_graph(ScriptedChatModel()))
        assert (comparison.verdict, [task.node for task in comparison.tasks]) == ("same", nodes), comparison


async def test_a_model_whose_reply_was_never_stored_can_not_be_answered(served: Start) -> None:
    def graph(model: ScriptedChatModel) -> Any:
        def classify(state: MessagesState) -> dict[str, Any]:
            kind = model.invoke(state["messages"]).text
            return {"messages": [HumanMessage(f"kind {kind}")]}

        return StateGraph(MessagesState).add_node("classify", classify).add_edge(START, "classify")

    server = served(graph(ScriptedChatModel(["refund"])))
    _, run_id = await ran(server, input=asks("Hi"))
    comparison = await compare(server, run_id, graph(ScriptedChatModel()))
    assert comparison.verdict == "unanswered"
    (unanswered,) = [task for task in comparison.tasks if task.verdict == "unanswered"]
    assert unanswered.node == "classify"
    assert unanswered.details == ("the record has no answer to a call of ScriptedChatModel",)


async def test_models_of_a_subgraph_and_of_parallel_tasks_get_their_own_replies(served: Start) -> None:
    def graph(model: ScriptedChatModel) -> Any:
        async def speak(state: dict[str, Any]) -> dict[str, Any]:
            reply = await model.ainvoke([HumanMessage(state["word"])])
            return {"messages": [reply]}

        def inner(state: MessagesState) -> dict[str, Any]:
            return {"messages": [model.invoke(state["messages"])]}

        child = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner").compile()
        builder = StateGraph(MessagesState).add_node("speak", speak).add_node("child", child)
        builder.add_node("fan", lambda state: {})
        builder.add_edge(START, "child").add_edge("child", "fan")
        builder.add_conditional_edges("fan", lambda state: [Send("speak", {"word": word}) for word in "ab"], ["speak"])
        return builder

    def echo(messages: list[Any]) -> str:
        return f"reply to {messages[-1].text}"

    server = served(graph(ScriptedChatModel([echo] * 3)))
    _, run_id = await ran(server, input=asks("Hi"))
    comparison = await compare(server, run_id, graph(ScriptedChatModel()))
    assert differences(comparison) == [] and comparison.verdict == "same", comparison
    assert sorted(task.node for task in comparison.tasks) == ["__start__", "child", "fan", "speak", "speak"]


async def test_a_tool_that_asked_a_question_asks_it_again_without_being_called(served: Start) -> None:
    called: list[str] = []

    @tool
    def refund(order: str) -> str:
        """Pay back."""
        called.append(order)
        return "paid" if interrupt({"refund": order}) == "yes" else "not paid"

    def graph(model: ScriptedChatModel) -> Any:
        def talk(state: MessagesState) -> dict[str, Any]:
            return {"messages": [model.bind_tools([refund]).invoke(state["messages"])]}

        builder = StateGraph(MessagesState).add_node("talk", talk).add_node("tools", ToolNode([refund]))
        builder.add_edge(START, "talk").add_conditional_edges("talk", tools_condition)
        return builder.add_edge("tools", "talk")

    server = served(graph(ScriptedChatModel([call("refund", order="A-1"), "Done."])))
    thread_id, first = await ran(server, input=asks("refund"))
    _, second = await ran(server, thread_id, command={"resume": "yes"})
    assert called == ["A-1", "A-1"]
    for run_id in (first, second):
        comparison = await compare(server, run_id, graph(ScriptedChatModel()))
        assert comparison.verdict == "same", comparison
    assert called == ["A-1", "A-1"], "no tool is called"


async def test_a_subgraph_goes_on_where_it_stood_when_the_run_answered_its_question(served: Start) -> None:
    made: list[str] = []

    def graph() -> Any:
        def first(state: MessagesState) -> dict[str, Any]:
            made.append("first")
            return {"messages": [AIMessage("first")]}

        def second(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(f"{state['messages'][-1].text}, then {interrupt('?')}")]}

        child = StateGraph(MessagesState).add_node("first", first).add_node("second", second)
        child.add_edge(START, "first").add_edge("first", "second")
        builder = StateGraph(MessagesState).add_node("child", child.compile())
        builder.add_node("beside", lambda state: {"messages": [AIMessage("beside")]})
        return builder.add_edge(START, "child").add_edge(START, "beside")

    server = served(graph())
    thread_id, asking = await ran(server, input=asks("Hi"))
    _, answering = await ran(server, thread_id, command={"resume": "that"})
    assert made == ["first"]
    comparison = await compare(server, answering, graph())
    assert comparison.verdict == "same", comparison
    assert [task.node for task in comparison.tasks] == ["child"], "what had finished before is not run again"
    assert made == ["first"]
    comparison = await compare(server, asking, graph())
    assert comparison.verdict == "same" and made == ["first", "first"], comparison
    assert sorted(task.node for task in comparison.tasks) == ["__start__", "beside", "child"]


async def test_errors_are_compared_and_what_was_removed_is_told(served: Start) -> None:
    def graph(text: str, *nodes: str) -> Any:
        def fail(state: MessagesState) -> dict[str, Any]:
            if text:
                raise ValueError(text)
            return {}

        builder = StateGraph(MessagesState)
        for node in nodes:
            builder.add_node(node, fail)
        return builder.add_edge(START, nodes[0])

    server = served(graph("boom", "fail"))
    _, run_id = await ran(server, input=asks("Hi"))
    assert (await compare(server, run_id, graph("boom", "fail"))).verdict == "same"
    (other,) = differences(await compare(server, run_id, graph("bang", "fail")))
    assert other[0] == "fail" and "ValueError('boom')" in other[1] and "ValueError('bang')" in other[1]
    found = differences(await compare(server, run_id, graph("", "renamed")))
    assert ("fail", "it does not run today") in found


async def test_a_state_of_an_earlier_version_is_migrated_first(served: Start) -> None:
    server = served(trip_graph(ScriptedChatModel(["Hello."])))
    _, run_id = await ran(server, input=asks("Hi"))
    seen: list[Any] = []

    def migrate(values: dict[str, Any]) -> dict[str, Any]:
        seen.append(values)
        return values

    comparison = await compare(
        server, run_id, trip_graph(ScriptedChatModel()), migrations=StateMigrations("agent", {1: (2, migrate)})
    )
    assert comparison.verdict == "same" and seen


async def test_runs_that_can_not_be_executed_again_say_why(served: Start) -> None:
    server = served(trip_graph(ScriptedChatModel(["Hello."])))
    _, run_id = await ran(server, input=asks("Hi"), durability="exit")
    comparison = await compare(server, run_id, trip_graph(ScriptedChatModel()))
    assert comparison.verdict == "unanswered" and comparison.why is not None and "durability" in comparison.why
    with pytest.raises(NoSuchRun):
        await compare(server, "no id", trip_graph(ScriptedChatModel()))
    async with asyncpg.create_pool(server.database_uri, min_size=1, max_size=1) as pool:
        assert await runs_since(pool, 3600, [], 10) == [run_id] == await runs_since(pool, 3600, ["agent"], 10)
        assert await runs_since(pool, 3600, ["other"], 10) == []
        server.advance(hours=2)
        assert await runs_since(pool, 3600, [], 10) == []


@pytest.mark.server
def test_the_command(postgres_uri: str, tmp_path: Path) -> None:
    (tmp_path / "rerun_app_of_this_test.py").write_text(
        "import os\n"
        "from langchain_core.messages import AIMessage\n"
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "def say(state):\n"
        "    said = os.environ.get('SAYS', 'You said')\n"
        "    return {'messages': [AIMessage(f\"{said} {state['messages'][-1].text}\")]}\n"
        "graph = StateGraph(MessagesState).add_node(say).add_edge(START, 'say')\n"
    )
    config = {"dependencies": ["."], "graphs": {"echo": "./rerun_app_of_this_test.py:graph"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))

    with serve(tmp_path, database_uri=postgres_uri) as server:
        client = server.sync_client
        thread_id = client.threads.create()["thread_id"]
        for text in ("one", "two"):
            client.runs.wait(thread_id, "echo", input=asks(text))
        (last, _) = client.runs.list(thread_id)

        def again(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-P", "-m", "threadlog.deploy.cli", "rerun", *options],
                cwd=tmp_path,
                env={**os.environ, "DATABASE_URI": server.database_uri, **variables},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )

        done = again("--since", "1d", "--graph", "echo")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("2 runs: 2 same, 0 different, 0 that can't be compared\n")
        done = again(last["run_id"], "--json", SAYS="Did you say")
        assert done.returncode == 1
        (run,) = json.loads(done.stdout)["runs"]
        assert (run["run_id"], run["verdict"]) == (last["run_id"], "different")
        assert [(task["node"], task["verdict"]) for task in run["tasks"]] == [
            ("__start__", "same"),
            ("say", "different"),
        ]
        done = again(last["run_id"], SAYS="Did you say")
        detail = "messages[0].content: recorded 'You said two', today 'Did you say two'"
        assert f"  step 4 say: different\n    {detail}\n" in done.stdout, done.stdout
    assert again().returncode == 1
    assert "no time span" in again("--since", "soon").stderr


def test_a_difference_in_a_large_value_is_shown_where_it_is() -> None:
    long = "x" * 1000
    then = [("found", {"pages": [{"text": long, "n": 1}, {"text": f"{long}old{long}"}]}), ("gone", 1)]
    today = [("found", {"pages": [{"text": long, "n": 1}, {"text": f"{long}new{long}", "more": None}]})]
    in_text, more, gone = (detail for detail, _ in _differences(then, today, ()))
    assert in_text.startswith("found.pages[1].text: recorded …xxx") and "xold" in in_text and "xnew" in in_text
    assert len(in_text) < 500
    assert more == "found.pages[1].more: recorded nothing, today None"
    assert gone == "gone: recorded 1, today nothing"
    ((shorter, _),) = _differences([("pages", [1, 2])], [("pages", [1])], ())
    assert shorter == "pages: recorded [1, 2], today [1]"


def test_time_spans() -> None:
    assert [seconds_of(text) for text in ("30m", "36h", "7d", "0.5w")] == [1800, 129_600, 604_800, 302_400]
    for text in ("", "7", "d", "-7d", "7 d"):
        with pytest.raises(ValueError, match="no time span"):
            seconds_of(text)
