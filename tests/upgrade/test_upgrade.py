"""Data of earlier versions opens with this one, in both modes; `write.py` says how the fixtures are made."""

from __future__ import annotations

import asyncio
import base64
import lzma
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.servers import Server
from tests.upgrade.app.graphs import GATE
from tests.upgrade.write import APP, ASSISTANT, PARTITIONS, answers_about
from tests.waiting import eventually
from threadlog.deploy.compose.storage import opened_log
from threadlog.deploy.postgres import EmbeddedPostgres
from threadlog.deploy.settings import Settings

WRITTEN = Path(__file__).parent / "written"
VERSIONS = sorted(path.name for path in WRITTEN.iterdir())
GOES_ON = {"held", "later"}  # had unfinished runs


@pytest.mark.timeout(900)  # starts a server, in one mode on a Kafka that may have to start too
@pytest.mark.parametrize("version", VERSIONS)
async def test_what_an_earlier_version_wrote_opens(
    version: str, mode: str, own_server: Callable[..., Server], request: pytest.FixtureRequest
) -> None:
    fixture = WRITTEN / version / mode
    env = {GATE: "yes", "THREADLOG_PARTITIONS": str(PARTITIONS)}
    data_dir = Path(tempfile.mkdtemp(prefix="tl-up-"))  # removed as the server stops
    await _restore(data_dir, _read(fixture, ".sql.xz"))
    if mode == "kafka":
        env["THREADLOG_TOPIC_PREFIX"] = f"upgrade-{uuid.uuid4().hex[:8]}."
        await _replay(
            request.getfixturevalue("kafka_bootstrap"), env["THREADLOG_TOPIC_PREFIX"], _read(fixture, ".records.xz")
        )
    then = orjson.loads(_read(fixture, ".answers.json.xz"))
    threads = {name: shown["thread"]["thread_id"] for name, shown in then["threads"].items()}

    server = await asyncio.to_thread(own_server, APP, env=env, data_dir=data_dir, executors=1)
    client = get_client(url=server.url)

    for name in GOES_ON:
        del then["threads"][name]
    now = await answers_about(client, {name: threads[name] for name in then["threads"]})
    assert list(_missing(then, now)) == []

    await _unfinished_runs_end(client, threads)
    await _threads_go_on(client, threads)
    verified = await asyncio.to_thread(server.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    history = await asyncio.to_thread(server.threadlog, "events", "--thread", threads["held"])
    assert "run.succeeded" in history.stdout


async def _unfinished_runs_end(client: LangGraphClient, threads: dict[str, str]) -> None:
    async def at_rest() -> bool:
        return "busy" not in [(await client.threads.get(threads[name]))["status"] for name in sorted(GOES_ON)]

    await eventually(at_rest)
    held = await client.threads.get_state(threads["held"])
    assert held["values"]["steps"] == ["begin", "one, then", "gate", "three", "second", "three"]
    runs = await client.runs.list(threads["held"])
    assert sorted(run["status"] for run in runs) == ["error", "success"]
    assert [run["status"] for run in await client.runs.list(threads["later"])] == ["success"]


async def _threads_go_on(client: LangGraphClient, threads: dict[str, str]) -> None:
    messages = {"messages": [{"role": "user", "content": "One more"}]}
    values: Any = await client.runs.wait(threads["talk"], "talk", input=messages)
    assert [message["type"] for message in values["messages"]] == ["human", "ai"] * 4
    values = await client.runs.wait(threads["copied"], ASSISTANT, input=messages)
    assert len(values["messages"]) == 8
    values = await client.runs.wait(threads["asked"], "question", command={"resume": "do"})
    assert values == {"steps": ["begin", "asked", "three"], "answer": "do"}
    values = await client.runs.wait(threads["below"], "family", command={"resume": "do"})
    assert values["answer"] == "do" and values["steps"][-1] == "three"
    values = await client.runs.wait(threads["cancelled"], "gated", input=None)
    assert values["steps"] == ["begin", "one, then", "gate", "three"]
    before: Any = (await client.threads.get_history(threads["drawing"]))[-1]
    values = await client.runs.wait(threads["drawing"], "drawing", checkpoint=before["checkpoint"])
    assert len(base64.b64decode(values["picture"])) == 36 * 1024
    await client.threads.update_state(threads["updated"], {"messages": messages["messages"]}, as_node="reply")
    await client.threads.delete(threads["pruned"])


def _missing(then: Any, now: Any, place: str = "") -> Iterator[str]:
    """What was shown then and is not now; fields may have come since."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name, value in then.items():
            yield from _missing(value, now.get(name, "nothing"), f"{place}.{name}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, value in enumerate(then):
            yield from _missing(value, now[index], f"{place}[{index}]")
    elif then != now:
        yield f"{place}: {then!r:.200} then, {now!r:.200} now"


def _read(fixture: Path, suffix: str) -> bytes:
    return lzma.decompress(fixture.with_name(fixture.name + suffix).read_bytes())


async def _restore(data_dir: Path, sql: bytes) -> None:
    """A data folder with what pg_dump wrote."""
    postgres = EmbeddedPostgres(data_dir / "postgres")
    await asyncio.to_thread(postgres.start)
    try:
        connection = await asyncpg.connect(postgres.uri)
        await connection.execute(sql.decode())
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.stop)


async def _replay(bootstrap: str, prefix: str, lines: bytes) -> None:
    """The four topics with the records as they were, each at its offset."""
    from aiokafka import AIOKafkaProducer

    settings = Settings.load(kafka_bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=PARTITIONS)
    async with opened_log(settings), AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for line in lines.splitlines():
            topic, partition, offset, key, value, headers = orjson.loads(line)
            sent = await producer.send_and_wait(
                prefix + topic,
                None if value is None else base64.b64decode(value),
                None if key is None else base64.b64decode(key),
                partition,
                headers=[(name, base64.b64decode(header)) for name, header in headers],
            )
            assert sent.offset == offset
