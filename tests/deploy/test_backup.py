"""Backup and restore as docs/backup.md has them: what was acknowledged before is there, and goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.docs.reader import APP
from tests.servers import Server
from tests.waiting import eventually
from threadlog.deploy.cli import main as threadlog

pytestmark = pytest.mark.server


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: each session closes the folder above its own to the user whom Postgres runs as under root."""
    path = Path(tempfile.mkdtemp(prefix="tl-up-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def ask(client: LangGraphClient, text: str) -> str:
    """The id of a new thread on which a run has ended, or waits."""
    thread_id = str((await client.threads.create())["thread_id"])
    await client.runs.wait(thread_id, "agent", input=said(text))
    return thread_id


async def as_before(server: Server, told: str, asked: str) -> None:
    """One thread has its answer, the other one goes on from its question, and the read models are what the log says."""
    client = get_client(url=server.url)
    # With the log in Kafka the server is there before the engine has read all of it.
    for thread, status in ((told, "idle"), (asked, "interrupted")):
        await eventually(
            partial(client.threads.get, thread),
            lambda found, status=status: found["status"] == status,
            passing=(NotFoundError,),
        )
    state: Any = await client.threads.get_state(told)
    assert state["values"]["messages"][-1]["content"] == "You said: hello"
    assert [run["status"] for run in await client.runs.list(told)] == ["success"]
    answer: Any = await client.runs.wait(asked, "agent", command={"resume": "yes"})
    assert answer["messages"][-1]["content"] == "Refunded."
    verified = await asyncio.to_thread(server.threadlog, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def kill_everything(server: Server) -> None:
    """As a machine that is gone: nothing is stopped in order."""
    for pid in server.pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["embedded"], indirect=True)
async def test_a_backup_of_a_running_server_is_restored_elsewhere(
    mode: str, own_server: Callable[..., Server], folder: Path
) -> None:
    first = await asyncio.to_thread(own_server, APP / "langgraph.json", executors=1)
    client = get_client(url=first.url)
    told, asked = await ask(client, "hello"), await ask(client, "refund it")
    file = folder / "monday.backup"
    done = await asyncio.to_thread(first.threadlog, "backup", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o077 == 0 and not file.with_name("monday.backup.part").exists()
    later = await ask(client, "hello")
    again = await asyncio.to_thread(first.threadlog, "backup", str(file))
    assert again.returncode != 0 and "exists" in again.stderr
    kill_everything(first)

    with_new = {"THREADLOG_DATA_DIR": str(folder / "new")}
    restored = await asyncio.to_thread(CliRunner().invoke, threadlog, ["restore", str(file)], env=with_new)
    assert restored.exit_code == 0, restored.output
    twice = await asyncio.to_thread(CliRunner().invoke, threadlog, ["restore", str(file)], env=with_new)
    assert twice.exit_code != 0

    second = await asyncio.to_thread(own_server, APP / "langgraph.json", executors=1, data_dir=folder / "new")
    await as_before(second, told, asked)
    assert later not in {thread["thread_id"] for thread in await get_client(url=second.url).threads.search()}


@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize("restored", [False, True], ids=["Postgres is lost", "an older Postgres is restored"])
async def test_what_postgres_lost_comes_back_from_kafka(
    restored: bool, request: pytest.FixtureRequest, folder: Path
) -> None:
    from tests import servers

    env = {
        "KAFKA_BOOTSTRAP_SERVERS": request.getfixturevalue("kafka_bootstrap"),
        "THREADLOG_TOPIC_PREFIX": f"backup-{uuid.uuid4().hex[:8]}.",
        "THREADLOG_PARTITIONS": "4",
    }

    def start(name: str) -> Server:
        return servers.start(APP / "langgraph.json", env=env, executors=1, data_dir=folder / name)

    first = await asyncio.to_thread(start, "first")
    client = get_client(url=first.url)
    told = await ask(client, "hello")
    file = folder / "older.backup"
    done = await asyncio.to_thread(first.threadlog, "backup", str(file))
    assert done.returncode == 0 and "read models" in done.stderr, done.stderr
    asked = await ask(client, "refund it")  # what the backup does not have
    kill_everything(first)
    if restored:
        loaded = await asyncio.to_thread(
            CliRunner().invoke, threadlog, ["restore", str(file)], env={"THREADLOG_DATA_DIR": str(folder / "second")}
        )
        assert loaded.exit_code == 0, loaded.output
    second = await asyncio.to_thread(start, "second")
    try:
        await as_before(second, told, asked)
    finally:
        await asyncio.to_thread(second.end)


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear customer")
    done = CliRunner().invoke(
        threadlog, ["restore", str(tmp_path / "letter")], env={"THREADLOG_DATA_DIR": str(tmp_path / "new")}
    )
    assert done.exit_code != 0 and not (tmp_path / "new").exists()
