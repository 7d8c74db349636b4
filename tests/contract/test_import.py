"""An installation moves: what one server has exported another imports, with other partitions and its log elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests import servers
from tests.contract.command_line import objects, printed
from tests.contract.gate import Gate
from tests.servers import Server
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.server, pytest.mark.timeout(400)]  # some twenty processes, two servers


@pytest.fixture
def app(graphs: Callable[..., Path]) -> Path:
    return graphs("noop", "ask", "gated", sections=["env", "webhooks"])


@pytest.fixture
def elsewhere(mode: str, app: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the other mode, with another number of partitions."""
    log = {"THREADLOG_PARTITIONS": "5"}
    if mode == "embedded":
        log["KAFKA_BOOTSTRAP_SERVERS"] = request.getfixturevalue("kafka_bootstrap")
        log["THREADLOG_TOPIC_PREFIX"] = f"test-{uuid.uuid4().hex[:12]}."
    running = servers.start(app, mode="kafka" if mode == "embedded" else "embedded", env=log)
    yield running
    running.stop()


@pytest.fixture
async def there(elsewhere: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=elsewhere.url, api_key=None) as client:
        yield client


async def state_of(client: LangGraphClient, thread_id: str) -> dict[str, Any]:
    """All that clients can read of a thread."""
    thread = await client.threads.get(thread_id)
    return {
        "thread": thread,
        "runs": await client.runs.list(thread_id),
        "state": await client.threads.get_state(thread_id),
        "history": await client.threads.get_history(thread_id, limit=100),
    }


async def test_an_installation_moves_with_its_history_and_nothing_happens_twice(
    own_server: Callable[..., Server], app: Path, elsewhere: Server, there: LangGraphClient, tmp_path: Path, gate: Gate
) -> None:
    here = own_server(app)
    async with get_client(url=here.url, api_key=None) as client:
        thread_id = (await client.threads.create(metadata={"team": "a"}))["thread_id"]
        for _ in range(3):
            await client.runs.wait(thread_id, "noop", input={"items": ["x" * 100]})
        large = (await client.threads.create())["thread_id"]
        await client.runs.wait(large, "noop", input={"items": [os.urandom(60_000).hex()]})
        asked = (await client.threads.create())["thread_id"]
        await client.runs.wait(asked, "ask", input={"items": []})
        busy = (await client.threads.create())["thread_id"]
        run = await client.runs.create(busy, "gated", input=gate.input, webhook="http://127.0.0.1:9/never")
        await gate.entered(run["run_id"])
        queued = await client.runs.create(busy, "gated", input=gate.input, multitask_strategy="enqueue")
        delayed = (await client.threads.create())["thread_id"]
        await client.runs.create(delayed, "noop", input={"items": []}, after_seconds=90)
        assistant = await client.assistants.create("noop", name="first")
        await client.assistants.update(assistant["assistant_id"], name="second")
        await client.store.put_item(["a", "b"], "k", {"n": 1})
        cron = await client.crons.create("noop", schedule="* * * * * *", input={"items": []})

        async def fired() -> bool:
            (found,) = await client.crons.search()
            return bool(found.get("next_run_date")) and len(await client.threads.search(limit=100)) > 5

        await eventually(fired, within=20)
        before = {id: await state_of(client, id) for id in (thread_id, large, asked)}
        file = tmp_path / "all.jsonl.gz"
        await printed(here, "export", str(file))

        # The file, and what is wrong with it.
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        short = tmp_path / "short.jsonl"
        short.write_bytes(b"".join(lines[:-1]))
        assert f"line {len(lines) - 1}: the file ends here" in await printed(elsewhere, "import", str(short), code=78)
        odd = tmp_path / "odd.jsonl"
        odd.write_bytes(b"".join([*lines[:3], b'{"partition": 1}\n', *lines[4:]]))
        assert "line 4: not an event record" in await printed(elsewhere, "import", str(odd), "--dry-run", code=78)
        newer = tmp_path / "newer.jsonl"
        newer.write_bytes(lines[0].replace(b'"format":2', b'"format":9') + b"".join(lines[1:]))
        assert "a later version of threadlog" in await printed(elsewhere, "import", str(newer), code=78)
        assert "is of this installation" in await printed(here, "import", str(file), code=78)

        (would,) = await objects(elsewhere, "import", str(file), "--dry-run")
        assert would["dry_run"] and not would["refused"]
        (done,) = await objects(elsewhere, "import", str(file), "--by", "ann")
        assert done["imported"] == would["imported"] > 20 and done["values"] >= 1 and not done["refused"]
        assert done["records"] == len(lines) - 2

        for id, wanted in before.items():
            assert await state_of(there, id) == wanted
        assert (await there.assistants.get(assistant["assistant_id"]))["name"] == "second"
        assert len(await there.assistants.get_versions(assistant["assistant_id"])) == 2
        assert (await there.store.get_item(["a", "b"], "k"))["value"] == {"n": 1}

        # What was in flight has ended, and says why.
        ended = {each["run_id"]: each["status"] for each in await there.runs.list(busy)}
        assert ended == {run["run_id"]: "interrupted", queued["run_id"]: "interrupted"}
        assert "in flight when its history was exported" in (await there.threads.get(busy))["error"]["message"]
        assert [each["status"] for each in await there.runs.list(delayed)] == ["interrupted"]
        assert (gate.folder / "journal").read_text().count("enter") == 1

        # The cron goes on from now on; every firing of it is another one.
        (found,) = await there.crons.search()
        assert found["cron_id"] == cron["cron_id"]
        firings = [line["event"]["due_at"] for line in await objects(elsewhere, "events", "--type", "cron.fired")]
        assert len(firings) == len(set(firings))
        await there.crons.delete(cron["cron_id"])

        # Its origin is told.
        listed = await objects(elsewhere, "events", "--thread", thread_id)
        theirs = await objects(here, "events", "--thread", thread_id)
        told = [line for line in listed if not line["event"]["type"].startswith("history.")]
        assert [(line["at"], line["actor"], line["command_id"], line["event"]) for line in told] == [
            (line["at"], line["actor"], line["command_id"], line["event"]) for line in theirs
        ]
        origins = [line["event"] for line in listed if line["event"]["type"] == "history.imported"]
        assert {(o["partition"], o["offset"]) for o in origins} == {(t["partition"], t["offset"]) for t in theirs}
        assert {o["imported_by"] for o in origins} == {"ann"}
        assert (await printed(elsewhere, "explain", (await there.runs.list(thread_id))[0]["run_id"])).startswith("run")

        # Once more changes nothing.
        (again,) = await objects(elsewhere, "import", str(file))
        assert again["imported"] == again["aggregates"] == 0 and again["there"] == done["imported"]
        assert [line["event"] for line in await objects(elsewhere, "events", "--thread", thread_id)] == [
            line["event"] for line in listed
        ]
        assert "No difference" in await printed(elsewhere, "verify")

        # It goes on there.
        await there.runs.wait(thread_id, "noop", input={"items": ["there"]})
        assert len(await there.runs.list(thread_id)) == 4
        await there.runs.wait(asked, "ask", command={"resume": "yes"})
        assert (await there.threads.get(asked))["status"] == "idle"
        (late,) = await objects(elsewhere, "import", str(file))
        assert not late["imported"] and not late["refused"]

        # And back: with what has happened there.
        back = tmp_path / "back.jsonl"
        await printed(elsewhere, "export", "--thread", thread_id, str(back))
        assert "with a history of its own" in await printed(here, "import", str(back), code=1)
        gate.open()


async def test_what_is_encrypted_moves_with_its_keys(
    own_server: Callable[..., Server], app: Path, tmp_path: Path
) -> None:
    secret, other = "0123456789abcdef", "fedcba9876543210"
    here = own_server(app, env={"LANGGRAPH_AES_KEY": secret})
    keys = {"LANGGRAPH_AES_KEY": other, "THREADLOG_AES_OLD_KEYS": secret}
    there = own_server(app, env={**keys, "THREADLOG_PARTITIONS": "5"})
    async with get_client(url=here.url, api_key=None) as client:
        thread_id = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread_id, "noop", input={"items": ["a secret"]})
        state = await client.threads.get_state(thread_id)
    file = tmp_path / "thread.jsonl"
    await printed(here, "export", "--thread", thread_id, str(file))
    assert b"a secret" not in file.read_bytes() and b'"data_key"' in file.read_bytes()
    without = {name: value for name, value in there._environment().items() if name != "THREADLOG_AES_OLD_KEYS"}
    command = [sys.executable, "-P", "-m", "threadlog.deploy.cli", "import", str(file)]
    refused = await asyncio.to_thread(
        subprocess.run, command, env={**servers.clean_environment(), **without}, capture_output=True, text=True
    )
    assert refused.returncode == 78 and "line 2: a key of this export can't be decrypted" in refused.stderr
    await printed(there, "import", str(file))
    async with get_client(url=there.url, api_key=None) as client:
        assert await client.threads.get_state(thread_id) == state
        await client.runs.wait(thread_id, "noop", input={"items": ["more"]})
        assert "a secret" in (await client.threads.get_state(thread_id))["values"]["items"]
