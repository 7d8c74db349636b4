"""Processes of the fork server: each is itself, all belong to the supervisor, nothing is left or lost with either."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from langgraph_sdk import get_sync_client

from tests import servers
from tests.servers import Server
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to whom adopts them")

GRAPH = """
import os, random, subprocess, sys, tempfile, threading, uuid
from typing import Any, TypedDict
from langgraph.graph import START, StateGraph

print("imported by", os.getpid())

class State(TypedDict, total=False):
    do: str
    seen: dict[str, Any]

def look(state):
    match state.get("do"):
        case "exit 78":
            os._exit(78)
        case "leave a child":  # it keeps our output open
            subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    descriptors = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            descriptors[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            pass
    from langsmith import uuid7
    return {"seen": {
        "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0),
        "group": os.getpgid(0), "descriptors": descriptors,
        "name": os.environ["THREADLOG_PROCESS_NAME"], "owner": os.environ["THREADLOG_OWNER"],
        "of_langgraph_json": os.environ.get("OF_LANGGRAPH_JSON"), "argv": sys.argv[1:],
        "chance": [random.random(), uuid.uuid4().hex, str(uuid7()), tempfile.mktemp()],
        "api": "api" in sys.modules,
    }}

builder = StateGraph(State)
builder.add_node("look", look)
builder.add_edge(START, "look")
graph = builder.compile()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application whose graph tells what it sees of its process."""
    config = {"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "env": {"OF_LANGGRAPH_JSON": "yes"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(config))
    (tmp_path / "agent.py").write_text(GRAPH)
    return tmp_path / "langgraph.json"


def look(server: Server, do: str = "") -> dict[str, object]:
    with get_sync_client(url=server.url, api_key=None) as client:
        return client.runs.wait(None, "agent", input={"do": do})["seen"]


def both(server: Server) -> list[dict[str, object]]:
    """What either executor sees: the other one is held meanwhile."""
    found = []
    for held, asked in (("executor-1", "executor-2"), ("executor-2", "executor-1")):
        server.kill(held, signal.SIGSTOP)
        try:
            seen = look(server)
        finally:
            server.kill(held, signal.SIGCONT)
        assert seen["name"] == asked
        found.append(seen)
    return found


def wait_started(server: Server, name: str) -> None:
    server.wait_line(lambda line: line.startswith(name) and "is ready: agent" in line)


def is_forked(server: Server, name: str) -> bool:
    """A forked process has a title, a new interpreter the command line it was started with."""
    return " ".join(psutil.Process(server.pids[name]).cmdline()).strip() == f"threadlog {name}"


def test_each_process_has_its_own_name_environment_output_and_chance(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=2)
    wait_started(server, "executor-2")
    assert all(is_forked(server, name) for name in ("fork-server", "server", "executor-1", "executor-2"))
    first, second = both(server)
    assert first["parent"] == second["parent"] == server.process.pid
    for seen in (first, second):
        assert seen["group"] == seen["pid"] == server.pids[str(seen["name"])]
        assert seen["session"] == server.pids["fork-server"]
        assert seen["argv"] == ["executor"]
        assert str(seen["name"]) in str(seen["owner"])
        assert seen["of_langgraph_json"] == "yes"
        assert seen["api"] is False  # an application may have a module of that name
        assert any(line == f"{seen['name']:<11} imported by {seen['pid']}" for line in server.lines)
    for one, other in zip(first["chance"], second["chance"], strict=True):  # type: ignore[call-overload]
        assert one != other


def test_api_and_engine_are_forked_too_where_they_are_two(
    app: Path, up: Callable[..., Server], kafka_bootstrap: str, kafka_prefix: str
) -> None:
    log = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap, "THREADLOG_TOPIC_PREFIX": kafka_prefix}
    server = up(app, executors=1, env={**log, "THREADLOG_PARTITIONS": "4"})
    assert all(is_forked(server, name) for name in ("fork-server", "api", "engine", "executor-1"))
    server.wait_replaced("engine", server.kill("engine"))
    eventually_blocking(lambda: is_forked(server, "engine"), says="it has its title")
    assert look(server)["name"] == "executor-1"


def test_no_descriptor_of_one_process_is_open_in_another(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=2)
    wait_started(server, "executor-2")
    first, second = (set(seen["descriptors"].values()) for seen in both(server))  # type: ignore[attr-defined]
    names = ("socket:", "pipe:")
    assert not {one for one in first & second if one.startswith(names)}
    fork_server = Path(f"/proc/{server.pids['fork-server']}/fd")
    open_there = {os.readlink(one) for one in fork_server.iterdir()}
    assert not {one for one in (first | second) & open_there if one.startswith(names)}
    assert len(open_there) == 3  # nothing, its output, the supervisor's socket: no connection for children to share
    assert psutil.Process(server.pids["fork-server"]).num_threads() == 1


def test_a_killed_executor_is_forked_anew_and_the_line_says_why(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    server.wait_replaced("executor-1", server.kill("executor-1"))
    server.wait_line(lambda line: line.startswith("executor-1  was killed by SIGKILL; starting it again"))
    wait_started(server, "executor-1")
    assert is_forked(server, "executor-1")
    assert look(server)["parent"] == server.process.pid


def test_executors_outlive_the_fork_server_and_new_ones_still_start(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    executor = server.pids["executor-1"]
    server.wait_replaced("fork-server", server.kill("fork-server"))
    server.wait_line(lambda line: line.startswith("fork-server was killed by SIGKILL; starting it again"))
    assert look(server)["pid"] == executor
    server.wait_replaced("executor-1", server.kill("executor-1"))
    wait_started(server, "executor-1")
    assert is_forked(server, "executor-1")
    assert look(server)["parent"] == server.process.pid


def test_while_the_fork_server_cannot_answer_processes_are_new_interpreters(
    app: Path, up: Callable[..., Server]
) -> None:
    server = up(app, executors=1)
    server.kill("fork-server", signal.SIGSTOP)  # the request waits in its socket …
    old = server.kill("executor-1")
    server.wait_line(lambda line: line.startswith("executor-1  was killed"))
    server.kill("fork-server")  # … and is lost with it
    server.wait_replaced("executor-1", old)
    wait_started(server, "executor-1")
    assert look(server)["parent"] == server.process.pid
    assert sum(line.startswith("executor-1  imported by") for line in server.lines) == 2  # nobody was started twice


def test_without_a_fork_server_each_process_is_an_interpreter_of_its_own(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1, env={"THREADLOG_FORK_SERVER": "false"})
    assert "fork-server" not in server.pids and not is_forked(server, "executor-1")
    old = server.kill("executor-1")
    server.wait_replaced("executor-1", old)
    assert look(server)["parent"] == server.process.pid


def test_a_killed_supervisor_leaves_none_of_them(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=2)
    wait_started(server, "executor-2")
    server.wait_replaced("fork-server", server.kill("fork-server"))  # the executors' first fork server is long gone
    server.wait_replaced("executor-2", server.kill("executor-2"))
    family = servers.descendants(server.process.pid)
    assert {server.pids[name] for name in ("fork-server", "server", "executor-1", "executor-2")} <= {
        process.pid for process in family
    }
    server.process.kill()
    server.process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def test_a_process_that_cannot_run_as_it_is_set_up_ends_the_server(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    with get_sync_client(url=server.url, api_key=None) as client:
        client.runs.create(None, "agent", input={"do": "exit 78"})
    assert server.process.wait(30) != 0
    server.wait_line(lambda line: "executor-1 cannot run; its last lines say why" in line)


def test_what_an_executor_leaves_running_neither_hides_its_end_nor_stays_a_zombie(
    app: Path, up: Callable[..., Server]
) -> None:
    server = up(app, executors=1)
    executor = look(server, "leave a child")["pid"]
    (left,) = psutil.Process(int(str(executor))).children()
    server.wait_replaced("executor-1", server.kill("executor-1"))
    wait_started(server, "executor-1")
    assert psutil.wait_procs([left], timeout=20)[1] == []


def test_executors_together_are_one_session_and_yield_to_no_other_program(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=2)
    wait_started(server, "executor-2")
    pids = server.pids
    executors = {pids["executor-1"], pids["executor-2"]}
    assert {os.getsid(pid) for pid in executors} == {pids["fork-server"]}
    assert os.getsid(pids["server"]) == pids["server"]  # so it has a share of its own
    assert {psutil.Process(pid).nice() for pid in executors} == {psutil.Process(pids["server"]).nice()}
    for pid in executors:
        group = Path(f"/proc/{pid}/autogroup")
        assert not group.exists() or group.read_text().split()[-1] == "0"
