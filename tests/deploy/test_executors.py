"""How many executors `threadlog up` has: one until there is work for more, or as many as it was told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.servers import Server
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.server

GRAPH = """
import asyncio, os, time
from pathlib import Path
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    do: str
    by: str

GATE = Path(__file__).with_name("open")

async def work(state):
    while state["do"] == "wait" and not GATE.exists():
        await asyncio.sleep(0.01)
    while state["do"] == "block" and not GATE.exists():
        time.sleep(0.01)
    return {"by": os.environ["THREADLOG_PROCESS_NAME"]}

builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
graph = builder.compile()
"""

SECOND = "executor-2"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application with one graph, `agent`; runs that `wait` or `block` do so until there is a file `open`."""
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}')
    (tmp_path / "agent.py").write_text(GRAPH)
    return tmp_path / "langgraph.json"


@pytest.fixture
def server(own_server: Callable[..., Server], app: Path) -> Server:
    server = own_server(app, executors=None)
    if len(psutil.Process(server.process.pid).cpu_affinity()) < 2:
        pytest.skip("this machine has one core")
    return server


@contextmanager
def client_of(server: Server) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.url, api_key=None) as client:
        yield client


def begin(client: SyncLangGraphClient, do: str) -> tuple[str, str]:
    """A run that has begun: its thread and its own id."""
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "agent", input={"do": do})["run_id"]
    eventually_blocking(lambda: client.runs.get(thread, run)["status"] != "pending")
    return thread, run


def wait_there(server: Server, name: str) -> None:
    eventually_blocking(lambda: name in server.executors, says=lambda: server.output)


def test_one_executor_serves_runs_that_follow_each_other(server: Server) -> None:
    with client_of(server) as client:
        for _ in range(5):
            assert client.runs.wait(None, "agent", input={"do": ""})["by"] == "executor-1"
    assert list(server.executors) == ["executor-1"]
    assert server.end() == 0  # the supervisor has done by then what it was asked for before
    assert SECOND not in server.output


def test_runs_side_by_side_bring_the_others(server: Server, app: Path) -> None:
    with client_of(server) as client:
        runs = [begin(client, "wait"), begin(client, "wait")]
        wait_there(server, SECOND)
        (app.parent / "open").touch()
        for thread, run in runs:
            client.runs.join(thread, run)
            assert client.runs.get(thread, run)["status"] == "success"


def test_a_run_that_blocks_the_loop_brings_one_who_can_work(server: Server, app: Path) -> None:
    with client_of(server) as client:
        thread = client.threads.create()["thread_id"]
        run = client.runs.create(thread, "agent", input={"do": "block"})["run_id"]
        wait_there(server, SECOND)
        assert client.runs.wait(None, "agent", input={"do": ""})["by"] == SECOND
        (app.parent / "open").touch()
        client.runs.join(thread, run)
        assert client.runs.get(thread, run)["status"] == "success"


def test_the_death_of_the_only_one_brings_the_others(server: Server) -> None:
    server.wait_replaced("executor-1", server.kill("executor-1"))
    wait_there(server, SECOND)


def test_a_parent_that_is_no_supervisor_is_not_harmed_by_the_question() -> None:
    ask = "from threadlog.deploy.parent import ask_for_more_executors as ask; ask()"
    parent = (
        "import os, subprocess, sys; from threadlog.deploy.parent import PARENT_PID;"
        "env = {**os.environ, PARENT_PID: str(os.getpid())};"
        f"subprocess.run([sys.executable, '-c', {ask!r}], env=env, check=True);"
        "print('lives')"  # a signal that nothing handles would have ended it by now
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert (done.returncode, done.stdout) == (0, "lives\n")


def test_a_number_is_the_number_from_the_beginning(own_server: Callable[..., Server], app: Path) -> None:
    server = own_server(app, executors=3)
    wait_there(server, "executor-3")
    assert sorted(server.executors) == ["executor-1", SECOND, "executor-3"]
