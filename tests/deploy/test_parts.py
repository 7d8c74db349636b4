"""`threadlog api`, `engine` and `executor` as processes of their own, on a shared Postgres, in both modes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import APIError

from tests.deploy.test_hangs import begin, outcome, write_app
from tests.servers import clean_environment
from tests.waiting import eventually_blocking
from threadlog.deploy.parent import PARENT_PID

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client

class State(TypedDict):
    said: str

builder = StateGraph(State)
builder.add_node("speak", lambda state: {"said": "hello"})
builder.add_edge(START, "speak")
graph = builder.compile()

async def call(state):
    client = get_client()
    thread = await client.threads.create()
    values = await client.runs.wait(thread["thread_id"], "agent", input={"said": ""})
    return {"said": "called: " + values["said"]}

builder = StateGraph(State)
builder.add_node("call", call)
builder.add_edge(START, "call")
calling = builder.compile()
"""


class Parts:
    """Processes of one cluster."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._env = {
            **clean_environment(), **env, "THREADLOG_PORT": str(port), PARENT_PID: str(os.getpid())
        }  # fmt: skip
        self.all: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, role: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{role}-{len(self.all)}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "threadlog.deploy.cli", role],
                cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.all.append((role, process))
        return process

    def free_port(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return str(probe.getsockname()[1])

    def start_probed(self, role: str) -> str:
        """Start it with a port for probes; answers the port."""
        port = self.free_port()
        env, self._env = self._env, {**self._env, "THREADLOG_HEALTH_PORT": port}
        try:
            self.start(role)
        finally:
            self._env = env
        return port

    def health(self, port: str) -> tuple[int, str]:
        """What `threadlog health` says about it."""
        asked = subprocess.run(
            [sys.executable, "-P", "-m", "threadlog.deploy.cli", "health", "--health-port", port],
            cwd=self._folder, env=self._env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return asked.returncode, asked.stdout + asked.stderr

    def wait_health(self, port: str, code: int, words: str) -> None:
        eventually_blocking(
            lambda: self.health(port),
            lambda answer: answer[0] == code and words in answer[1],
            within=60,
            says=self.said,
        )

    def said(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(self._folder.glob("*.log")))

    def wait_ok(self) -> None:
        def ok() -> bool:
            with urllib.request.urlopen(f"{self.url}/ok", timeout=5):
                return True

        eventually_blocking(ok, within=60, says=self.said, passing=(OSError,))

    def ask(self, graph: str = "agent") -> str:
        """The graph's answer; while an engine takes over, requests are answered with 503."""

        def said() -> str:
            with get_sync_client(url=self.url, api_key=None) as client:
                return client.runs.wait(None, graph, input={"said": ""})["said"]

        return eventually_blocking(said, lambda _: True, says=self.said, passing=(APIError, httpx.HTTPError))

    def stop(self) -> dict[str, int]:
        """Stop all in the order of a careful operator; answers exit codes by role."""
        codes: dict[str, int] = {}
        for wanted in ("executor", "api", "engine"):
            for role, process in self.all:
                if role == wanted and process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    codes[role] = process.wait(30)
        return codes

    def kill(self) -> None:
        for _, process in self.all:
            process.kill()
            process.wait()


@pytest.fixture
def parts(tmp_path: Path, empty_database: str, mode: str, request: pytest.FixtureRequest) -> Iterator[Parts]:
    graphs = {"agent": "./agent.py:graph", "calling": "./agent.py:calling"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    (tmp_path / "agent.py").write_text(GRAPH)
    env = {"DATABASE_URI": empty_database, "THREADLOG_PARTITIONS": "16"}
    if mode == "kafka":
        env["KAFKA_BOOTSTRAP_SERVERS"] = request.getfixturevalue("kafka_bootstrap")
        env["THREADLOG_TOPIC_PREFIX"] = request.getfixturevalue("kafka_prefix")
    started = Parts(tmp_path, env)
    yield started
    started.kill()


def test_the_parts_work_together_started_in_any_order_and_stop_clean(parts: Parts) -> None:
    for role in ("executor", "api", "engine"):
        parts.start(role)
    parts.wait_ok()
    assert parts.ask() == "hello"
    assert parts.stop() == {"executor": 0, "api": 0, "engine": 0}, parts.said()
    assert "Traceback" not in parts.said()


def test_graphs_call_the_server_they_run_on(parts: Parts) -> None:
    for role in ("executor", "api", "engine"):
        parts.start(role)
    parts.wait_ok()
    assert parts.ask("calling") == "called: hello"


def test_a_graph_that_calls_an_api_that_is_not_there_is_told_which_setting_to_set(parts: Parts) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for role in ("api", "engine"):
            parts.start(role)
        parts._env["THREADLOG_API_URL"] = nowhere
        parts.start("executor")
        parts.wait_ok()
        assert parts.ask() == "hello"
        with get_sync_client(url=parts.url, api_key=None) as client, pytest.raises(Exception) as refused:
            client.runs.wait(None, "calling", input={"said": ""})
    assert nowhere in str(refused.value) and "THREADLOG_API_URL" in str(refused.value)


def test_another_engine_takes_over_when_one_is_killed(parts: Parts) -> None:
    first = parts.start("engine")
    for role in ("engine", "api", "executor"):
        parts.start(role)
    parts.wait_ok()
    assert parts.ask() == "hello"
    first.kill()
    for _ in range(8):  # their threads lie in partitions of both engines
        assert parts.ask() == "hello"


def test_a_second_api_answers_too(parts: Parts) -> None:
    for role in ("engine", "executor", "api"):
        parts.start(role)
    parts.wait_ok()
    other = Parts(parts._folder, {name: parts._env[name] for name in parts._env if name != "THREADLOG_PORT"})
    try:
        other.start("api")
        other.wait_ok()
        with (
            get_sync_client(url=parts.url, api_key=None) as here,
            get_sync_client(url=other.url, api_key=None) as there,
        ):
            thread = here.threads.create()
            there.runs.wait(thread["thread_id"], "agent", input={"said": ""})
            assert here.threads.get_state(thread["thread_id"])["values"] == {"said": "hello"}
    finally:
        other.kill()


def test_an_executor_of_its_own_has_a_parent_that_keeps_its_lease(parts: Parts) -> None:
    write_app(parts._folder)
    for role in ("engine", "executor", "api"):
        parts.start(role)
    parts.wait_ok()
    with get_sync_client(url=parts.url, api_key=None) as client:
        neighbour = begin(client, parts._folder, "on_loop", "wait")
        busy = begin(client, parts._folder, "in_thread", "keep the interpreter")
        assert outcome(client, *busy) == ("success", 1)
        (parts._folder / "open").touch()
        assert outcome(client, *neighbour) == ("success", 1)


def test_an_executor_of_its_own_ends_when_it_hangs_and_its_parent_with_it(parts: Parts) -> None:
    write_app(parts._folder)
    parts._env["THREADLOG_HANG_SECONDS"] = "3"
    parts.start("engine")
    parts.start("api")
    first = parts.start("executor")
    parts.wait_ok()
    with get_sync_client(url=parts.url, api_key=None) as client:
        hanging = begin(client, parts._folder, "in_thread", "keep the interpreter for good")
        assert first.wait(30) == 128 + signal.SIGKILL
        parts.start("executor")
        assert outcome(client, *hanging) == ("success", 2)
    assert parts.stop() == {"executor": 0, "api": 0, "engine": 0}, parts.said()


def test_the_executor_ends_with_its_parent(parts: Parts) -> None:
    write_app(parts._folder)
    for role in ("engine", "api"):
        parts.start(role)
    parent = parts.start("executor")
    parts.wait_ok()
    (executor,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    executor.wait(10)


def test_every_process_answers_probes_for_itself(parts: Parts) -> None:
    ports = {role: parts.start_probed(role) for role in ("executor", "api", "engine")}
    parts.wait_ok()
    for port in ports.values():
        parts.wait_health(port, 0, "ok")
    engine = next(process for role, process in parts.all if role == "engine")
    engine.kill()
    engine.wait()
    assert parts.health(ports["engine"])[0] == 1
    for role in ("api", "executor"):  # both are there, and can't do anything
        parts.wait_health(ports[role], 1, "engine: ")
    parts.start("engine")
    for role in ("api", "executor"):
        parts.wait_health(ports[role], 0, "ok")
