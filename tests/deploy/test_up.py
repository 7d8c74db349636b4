"""`threadlog up`: starts, says what it does, mends what breaks, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import APIError

from tests import servers
from tests.servers import Server, ServerFailed
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.server

GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    said: str

def speak(state):
    return {"said": "VERSION"}

builder = StateGraph(State)
builder.add_node("speak", speak)
builder.add_edge(START, "speak")
graph = builder.compile()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application with one graph, `agent`, that says `one`."""
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}')
    (tmp_path / "agent.py").write_text(GRAPH.replace("VERSION", "one"))
    return tmp_path / "langgraph.json"


def ask(server: Server) -> str:
    with get_sync_client(url=server.url, api_key=None) as client:
        return client.runs.wait(None, "agent", input={"said": ""})["said"]


def wait_for_answer(server: Server, wanted: str) -> None:
    """Ask until the answer is the wanted one: what is away is answered with 503 meanwhile."""
    eventually_blocking(
        lambda: ask(server),
        lambda answer: answer == wanted,
        within=60,
        says=lambda: server.output,
        passing=(httpx.HTTPError, APIError),
    )


def test_it_says_where_what_and_when_and_stops_clean(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1, first_start=True)
    assert "graphs      agent" in server.lines
    assert "database    creating the database" in server.lines
    assert f"data        {server.data_dir}" in server.lines
    assert re.search(r"^ready       http://127\.0\.0\.1:\d+ after \d+\.\d s", server.output, re.MULTILINE)
    assert ask(server) == "one"
    began = time.monotonic()
    assert server.end() == 0  # raises when processes are left
    assert time.monotonic() - began < servers.STOP_SECONDS
    assert not (server.data_dir / "processes.json").exists()
    assert "Traceback" not in server.output


def test_an_env_file_that_nobody_made_stops_nothing_and_is_named(app: Path, up: Callable[..., Server]) -> None:
    app.write_text(app.read_text().replace("{", '{"env": ".env", "checkpointer": {"other": "./a.py:a"}, ', 1))
    server = up(app, executors=1)
    (missing, ignored) = [line for line in server.lines if line.startswith("notice ")]
    assert f"{app.parent / '.env'}, which `env` names, does not exist" in missing
    assert "not acted on: checkpointer.other " in ignored
    assert ask(server) == "one"


def test_authentication_that_is_not_there_is_not_passed_over(app: Path, up: Callable[..., Server]) -> None:
    app.write_text(app.read_text().replace("{", '{"auth": {"path": "./auth.py:auth"}, ', 1))
    with pytest.raises(ServerFailed, match=r"auth\.path: .*auth\.py does not exist"):
        up(app)


def test_the_env_file_wins_and_the_command_line_over_that(app: Path, up: Callable[..., Server]) -> None:
    (app.parent / ".env").write_text("COLOR=file\nTHREADLOG_EXECUTORS=3\nRESUMABLE_STREAM_TTL_SECONDS=7\n")
    app.write_text(
        app.read_text().replace("{", '{"env": ".env", "http": {"cors": {"allow_origins": ["https://a"]}}, ', 1)
    )
    (app.parent / "agent.py").write_text("import os\n" + GRAPH.replace('"VERSION"', 'os.environ["COLOR"]'))
    server = up(app, executors=3, arguments=("--executors", "1"), env={"COLOR": "shell"})
    assert ask(server) == "file"
    assert list(server.executors) == ["executor-1"]
    assert httpx.get(f"{server.url}/ok", headers={"Origin": "https://a"}).headers["access-control-allow-origin"]
    refused = httpx.get(f"{server.url}/ok", headers={"Origin": "https://b"}).headers
    assert "access-control-allow-origin" not in refused


AT_IMPORT = """
import asyncio

async def tools():
    await asyncio.sleep(0)
    return "tools"

first = asyncio.run(tools())
loop = asyncio.get_event_loop()
assert isinstance(loop, asyncio.BaseEventLoop)  # what can be patched, as nest_asyncio does
second = loop.run_until_complete(tools())
asyncio.run = lambda main: asyncio.get_event_loop().run_until_complete(main)
asyncio.run(tools())
"""


def test_modules_are_imported_without_a_running_loop_and_doctor_does_the_same(
    app: Path, up: Callable[..., Server]
) -> None:
    in_loop = 'asyncio.run_coroutine_threadsafe(tools(), loop).result(10) + f" {first} {second}"'  # node: a thread
    (app.parent / "agent.py").write_text(AT_IMPORT + GRAPH.replace('"VERSION"', in_loop))
    server = up(app, executors=1)
    assert ask(server) == "tools tools tools"
    said = server.threadlog("doctor", "--config", str(app), "--data-dir", str(app.parent / "fresh")).stdout
    assert "ok   graph agent can be imported" in said
    (app.parent / "agent.py").write_text("def graph(config):\n    raise ValueError('no key')\n")
    said = server.threadlog("doctor", "--config", str(app), "--data-dir", str(app.parent / "fresh")).stdout
    assert "BAD  graph agent: ValueError: no key" in said


def test_sigterm_stops_it_too_and_the_next_start_knows_everything(app: Path, up: Callable[..., Server]) -> None:
    first = up(app, executors=1)
    with get_sync_client(url=first.url, api_key=None) as client:
        thread = client.threads.create(metadata={"mine": True})
        client.runs.wait(thread["thread_id"], "agent", input={"said": ""})
    assert first.end(signal.SIGTERM) == 0
    second = up(app, executors=1, data_dir=first.data_dir)
    with get_sync_client(url=second.url, api_key=None) as client:
        assert client.threads.get_state(thread["thread_id"])["values"] == {"said": "one"}


TAKES_THE_PORT = """
import atexit, os, subprocess, sys, time
from pathlib import Path
from starlette.applications import Starlette

folder, port = Path(__file__).parent, os.environ["THREADLOG_PORT"]
(folder / "ok").write_text("I am another")
asked = folder / "asked.log"
other = subprocess.Popen(
    [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(folder)],
    stderr=asked.open("w"),
)
atexit.register(other.kill)
while asked.read_text().count("GET /ok") < 3:  # who waits for the server has had answers of another
    time.sleep(0.05)
app = Starlette()
"""


def test_a_server_that_takes_the_port_meanwhile_is_not_taken_for_this_one(app: Path, up: Callable[..., Server]) -> None:
    (app.parent / "routes.py").write_text(TAKES_THE_PORT)
    app.write_text(json.dumps({**json.loads(app.read_text()), "http": {"app": "./routes.py:app"}}))
    with pytest.raises(ServerFailed) as failed:
        up(app, executors=1)
    assert "exit code 78" in str(failed.value)
    assert "cannot listen there" in str(failed.value)
    assert "\nready " not in str(failed.value)


@pytest.mark.parametrize("name", ["server", "executor-1", "postgres"])
def test_what_dies_is_started_again_and_works(app: Path, up: Callable[..., Server], name: str) -> None:
    server = up(app, executors=1)
    server.wait_replaced(name, server.kill(name))
    wait_for_answer(server, "one")


def test_a_killed_supervisor_takes_everything_with_it(app: Path, up: Callable[..., Server]) -> None:
    first = up(app, executors=2)
    server_and_executors = servers.descendants(first.process.pid)
    assert len(server_and_executors) >= 4
    first.process.kill()
    first.process.wait()
    _, alive = psutil.wait_procs(server_and_executors, timeout=20)
    assert alive == []
    second = up(app, executors=1, data_dir=first.data_dir)
    assert ask(second) == "one"


def test_a_second_one_on_the_same_folder_is_refused(app: Path, up: Callable[..., Server]) -> None:
    first = up(app, executors=1)
    with pytest.raises(ServerFailed, match=f"in use by process {first.process.pid}"):
        up(app, data_dir=first.data_dir)
    assert ask(first) == "one"


def test_the_number_of_partitions_cannot_change_afterwards(app: Path, up: Callable[..., Server]) -> None:
    first = up(app, executors=1)
    first.end()
    with pytest.raises(ServerFailed, match="set up for 16 partitions, asked for 8"):
        up(app, data_dir=first.data_dir, env={"THREADLOG_PARTITIONS": "8"})


def test_a_broken_graph_is_named_with_its_place_and_the_others_work(app: Path, up: Callable[..., Server]) -> None:
    app.write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph", "bad": "./bad.py:graph"}}')
    (app.parent / "bad.py").write_text("import os\n\nraise ValueError('not today')\n")
    server = up(app, executors=1)
    assert ask(server) == "one"
    assert f"graph bad cannot be imported: ValueError: not today ({app.parent / 'bad.py'}:3)" in server.output


def test_reload_loads_the_graph_anew_when_its_file_changes(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1, arguments=("--reload",))
    assert ask(server) == "one"
    old = server.pids["executor-1"]
    (app.parent / "agent.py").write_text(GRAPH.replace("VERSION", "two"))
    server.wait_line(lambda line: "changed: agent.py" in line)
    server.wait_replaced("executor-1", old)
    psutil.wait_procs([psutil.Process(old)] if psutil.pid_exists(old) else [], timeout=20)
    assert ask(server) == "two"


def test_reload_outlives_a_mistake_in_the_file(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1, arguments=("--reload",))
    (app.parent / "agent.py").write_text("this is no Python\n")
    server.wait_line(lambda line: "SyntaxError" in line and "agent.py:1" in line)
    (app.parent / "agent.py").write_text(GRAPH.replace("VERSION", "three"))
    server.wait_line(lambda line: "is ready: agent" in line)
    wait_for_answer(server, "three")


async def test_events_lists_follows_and_verifies(app: Path, up: Callable[..., Server]) -> None:
    server = up(app, executors=1)
    async with get_client(url=server.url, api_key=None) as client:
        thread = await client.threads.create()
        await client.runs.wait(thread["thread_id"], "agent", input={"said": ""})
        listed = await asyncio.to_thread(server.threadlog, "events", "--thread", thread["thread_id"])
        assert listed.returncode == 0, listed.stderr
        types = [line.split()[2] for line in listed.stdout.splitlines()]
        assert types[:3] == ["thread.created", "run.created", "run.scheduled"]
        assert "run.succeeded" in types

        following = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "threadlog.deploy.cli", "events", "--follow", "--thread", thread["thread_id"],
            env={**servers.clean_environment(), "THREADLOG_DATA_DIR": str(server.data_dir)},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert following.stdout is not None
            for _ in types:
                await asyncio.wait_for(following.stdout.readline(), 30)
            await client.threads.update(thread["thread_id"], metadata={"seen": True})
            line = (await asyncio.wait_for(following.stdout.readline(), 30)).decode()
            assert line.split()[2] == "thread.updated"
        finally:
            following.terminate()
            await following.wait()

        unknown = await asyncio.to_thread(
            server.threadlog, "events", "--thread", "0199b2c0-0000-7000-8000-000000000000"
        )
        assert unknown.returncode == 1
        verified = await asyncio.to_thread(server.threadlog, "events", "--verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "No difference" in verified.stdout


def test_the_demo_goes_as_promised(tmp_path: Path, mode: str, request: pytest.FixtureRequest) -> None:
    env = {"THREADLOG_PORT": "0", "THREADLOG_DATA_DIR": str(tmp_path / "data"), "THREADLOG_EXECUTORS": "2"}
    if mode == "kafka":
        env["KAFKA_BOOTSTRAP_SERVERS"] = request.getfixturevalue("kafka_bootstrap")
        env["THREADLOG_TOPIC_PREFIX"] = f"demo-{os.urandom(4).hex()}."
        env["THREADLOG_PARTITIONS"] = "16"
    secrets = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SUPPORT_AGENT_MODEL")
    done = subprocess.run(
        [sys.executable, "-m", "threadlog.deploy.examples.demo", "--once"],
        env={**{n: v for n, v in servers.clean_environment().items() if n not in secrets}, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "attempt 2" in done.stdout
    assert "Everything went as promised." in done.stdout


def test_with_log_json_every_line_is_an_object_that_names_its_process_and_run(app: Path, tmp_path: Path) -> None:
    speaks = """
def speak(state):
    import logging
    logging.getLogger("agent").warning("from a %s", "node", extra={"words": 3})
    print({"not": "JSON"})
"""
    (tmp_path / "agent.py").write_text(GRAPH.replace("\ndef speak(state):\n", speaks))
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "threadlog.deploy.cli", "up"),
            *("--config", str(app), "--data-dir", str(tmp_path / "data")),
        ],
        env={**servers.clean_environment(), "LOG_JSON": "true", "THREADLOG_PORT": "0", "THREADLOG_EXECUTORS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if ready := re.match(r"ready (http://\S+)", lines[-1]["event"]):
            with get_sync_client(url=ready[1], api_key=None) as client:
                client.runs.wait(None, "agent", input={"said": ""})
            process.send_signal(signal.SIGINT)
    assert process.wait() == 0, "\n".join(line["event"] for line in lines)
    assert {"server", "executor-1"} < {line["process"] for line in lines}
    assert lines[-1]["event"] == "stopped"
    (logged,) = [line for line in lines if line["logger"] == "agent"]
    assert logged["event"] == "from a node" and logged["words"] == 3
    assert logged["process"] == "executor-1" and logged["graph_id"] == "agent" and logged["run_attempt"] == 1
    assert uuid.UUID(logged["run_id"]) and uuid.UUID(logged["thread_id"]) and uuid.UUID(logged["assistant_id"])
    (printed,) = [line for line in lines if line["event"] == "{'not': 'JSON'}"]
    assert printed["process"] == "executor-1"
