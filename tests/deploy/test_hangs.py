"""User code that keeps an executor's interpreter or its event loop: for a while, and for good."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from tests.processes import suspend
from tests.servers import Server
from tests.waiting import eventually_blocking

GRAPH = """
import asyncio, ctypes, os, time
from pathlib import Path
from typing import TypedDict
from langgraph.config import get_config
from langgraph.graph import START, StateGraph

HERE = Path(__file__).parent
FOR_EVER = 4000

class State(TypedDict, total=False):
    do: str
    seconds: float
    begun: int

def begun():
    note = HERE / get_config()["configurable"]["run_id"]
    with note.open("a") as file:
        print(os.getpid(), file=file)
    return len(note.read_text().splitlines())

def keep_the_interpreter(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))  # a C call that does not let go of the GIL

def compute(state):
    times = begun()
    if state["do"] == "keep the interpreter":
        keep_the_interpreter(state["seconds"])
    if state["do"] == "keep the interpreter for good" and times == 1:
        keep_the_interpreter(FOR_EVER)
    return {"begun": times}

async def wait(state):
    times = begun()
    if state["do"] == "keep the loop for good" and times == 1:
        time.sleep(FOR_EVER)
    while state["do"] == "wait" and not (HERE / "open").exists():
        await asyncio.sleep(0.01)
    return {"begun": times}

def made(node):
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    return builder.compile()

in_thread, on_loop = made(compute), made(wait)
"""
# Longer than the lease, and than the engine takes to notice.
LONGER_THAN_THE_LEASE = 9.0


def write_app(folder: Path) -> Path:
    graphs = '{"in_thread": "./agent.py:in_thread", "on_loop": "./agent.py:on_loop"}'
    (folder / "langgraph.json").write_text('{"dependencies": ["."], "graphs": ' + graphs + "}")
    (folder / "agent.py").write_text(GRAPH)
    return folder / "langgraph.json"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Two graphs. Each attempt leaves its pid in a file of its run's id; those that `wait` do so for a file `open`."""
    return write_app(tmp_path)


def begin(client: SyncLangGraphClient, folder: Path, graph: str, do: str) -> tuple[str, str]:
    """A run whose node has begun: its thread and its own id."""
    thread = client.threads.create()["thread_id"]
    given = {"do": do, "seconds": LONGER_THAN_THE_LEASE}
    run = client.runs.create(thread, graph, input=given)["run_id"]
    eventually_blocking(lambda: _pids(folder, run), within=60)
    return thread, run


def _pids(folder: Path, run: str) -> list[int]:
    """Of the processes that have begun the run."""
    file = folder / run
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def outcome(client: SyncLangGraphClient, thread: str, run: str) -> tuple[str, int | None]:
    """The run's status and how often it was begun."""
    state = client.runs.join(thread, run)
    return client.runs.get(thread, run)["status"], state.get("begun")


def test_a_call_that_keeps_the_interpreter_costs_neither_its_run_nor_the_neighbours_an_attempt(
    own_server: Callable[..., Server], app: Path
) -> None:
    server = own_server(app, executors=1)
    with get_sync_client(url=server.url, api_key=None) as client:
        neighbour = begin(client, app.parent, "on_loop", "wait")
        busy = begin(client, app.parent, "in_thread", "keep the interpreter")
        assert outcome(client, *busy) == ("success", 1)
        (app.parent / "open").touch()
        assert outcome(client, *neighbour) == ("success", 1)
    assert "starting it again" not in server.output


def test_while_the_only_one_is_held_others_are_started(own_server: Callable[..., Server], app: Path) -> None:
    server = own_server(app, executors=None)
    if len(psutil.Process(server.process.pid).cpu_affinity()) < 2:
        pytest.skip("this machine has one core")
    with get_sync_client(url=server.url, api_key=None) as client:
        busy = begin(client, app.parent, "in_thread", "keep the interpreter for good")
        thread, run = begin(client, app.parent, "on_loop", "")
        assert outcome(client, thread, run) == ("success", 1)
        assert _pids(app.parent, run) != _pids(app.parent, busy[1])


@pytest.mark.parametrize(
    ("graph", "do"), [("in_thread", "keep the interpreter for good"), ("on_loop", "keep the loop for good")]
)
def test_an_executor_that_hangs_for_good_is_killed_and_its_runs_go_on_elsewhere(
    own_server: Callable[..., Server], app: Path, graph: str, do: str
) -> None:
    server = own_server(app, executors=2, env={"THREADLOG_HANG_SECONDS": "3"})
    with get_sync_client(url=server.url, api_key=None) as client:
        hanging = begin(client, app.parent, graph, do)
        assert outcome(client, *hanging) == ("success", 2)
    assert "gave no sign of life for 3 s (THREADLOG_HANG_SECONDS)" in server.output


def test_who_is_stopped_by_a_signal_keeps_no_lease(own_server: Callable[..., Server], app: Path) -> None:
    server = own_server(app, executors=2, env={"THREADLOG_HANG_SECONDS": "3"})
    with get_sync_client(url=server.url, api_key=None) as client:
        thread, run = begin(client, app.parent, "on_loop", "wait")
        (pid,) = _pids(app.parent, run)
        try:
            suspend(pid)
            (app.parent / "open").touch()
            assert outcome(client, thread, run) == ("success", 2)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert "gave no sign of life" not in server.output
