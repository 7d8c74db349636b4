"""`threadlog up` gives up when its server can't start, and leaves nothing of what user code has started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from langgraph_sdk import get_sync_client

from tests.servers import Server, ServerFailed

GRAPH = """
import subprocess, sys
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict, total=False):
    pids: dict[str, int]

WAIT = [sys.executable, "-c", "import signal; signal.pause()"]
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
DAEMON = f'''
import subprocess
print(subprocess.Popen({WAIT}, start_new_session=True, stdin=-3, stdout=-3, stderr=-3).pid)
'''

def start(state):
    plain = subprocess.Popen(WAIT, **QUIET)
    own_session = subprocess.Popen(WAIT, **QUIET, start_new_session=True)
    daemon = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, text=True, check=True)
    return {"pids": {"plain": plain.pid, "own session": own_session.pid, "daemon": int(daemon.stdout)}}

builder = StateGraph(State)
builder.add_node("start", start)
builder.add_edge(START, "start")
graph = builder.compile()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application whose graph starts processes and leaves them running."""
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}')
    (tmp_path / "agent.py").write_text(GRAPH)
    return tmp_path / "langgraph.json"


def left_by_a_node(server: Server) -> dict[str, psutil.Process]:
    with get_sync_client(url=server.url, api_key=None) as client:
        pids = client.runs.wait(None, "agent", input={})["pids"]
    return {name: psutil.Process(pid) for name, pid in pids.items()}


def is_gone(process: psutil.Process) -> bool:
    _, alive = psutil.wait_procs([process], timeout=20)
    return not alive or process.status() == psutil.STATUS_ZOMBIE


def test_an_import_that_ends_the_process_ends_the_start_with_a_reason(app: Path, up: Callable[..., Server]) -> None:
    (app.parent / "agent.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(ServerFailed) as failed:
        up(app, executors=1)
    assert "the server ended with exit code 78" in str(failed.value)
    assert "executor-1 ended with exit code 3, 5 times in a row, before the server was ready" in str(failed.value)


def test_a_damaged_database_ends_the_start_with_a_reason(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    server.end()
    for folder in (server.data_dir / "postgres" / "base").iterdir():
        (folder / "pg_filenode.map").unlink()
    with pytest.raises(ServerFailed, match="the database's files are damaged or missing"):
        up(app, data_dir=server.data_dir)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to whom adopts them")
def test_what_nodes_have_started_ends_with_the_server(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    left = left_by_a_node(server)
    assert server.end() == 0
    assert {name: is_gone(process) for name, process in left.items()} == dict.fromkeys(left, True)
    assert "Traceback" not in server.output


def test_what_a_dead_executor_has_started_ends_with_it(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    left = left_by_a_node(server)
    server.wait_replaced("executor-1", server.kill("executor-1"))
    assert is_gone(left["plain"])
    assert left["daemon"].is_running()  # it has taken its leave of the executor


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no fork server to see to it")
def test_what_nodes_have_started_ends_with_a_killed_supervisor(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    left = left_by_a_node(server)
    server.process.kill()
    server.process.wait()
    try:
        assert is_gone(left["plain"])
    finally:
        for process in left.values():
            if process.is_running():
                process.kill()
