"""Writes the fixture of one version: `python -m tests.upgrade.write FOLDER -- COMMAND…`, COMMAND being its `threadlog`.

Of d1fe97e, before the package had one namespace, that is `env PYTHONPATH=CLONE python -P -m deploy.cli`. The server is
driven over HTTP alone, so that this script works with every version. In FOLDER, tests/upgrade/written/VERSION:

    embedded.sql.xz   pg_dump of the running server: read models and log, with one run in flight and one queued
    kafka.sql.xz      the same with the log in Kafka: the read models
    kafka.records.xz  every record of the four topics, a JSON line each
    …answers.json.xz  what the server returned about its threads and its assistant just before

Fixtures stay as they are: they are what that version wrote.
"""

from __future__ import annotations

import asyncio
import base64
import lzma
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.waiting import eventually
from threadlog.deploy.kafka.cluster import KafkaCluster
from threadlog.deploy.postgres import binaries, running_uri

APP = Path(__file__).parent / "app" / "langgraph.json"
PARTITIONS = 16
THREADS = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"upgrade/{name}")) for name in (
    "talk", "drawing", "held", "later", "asked", "below", "cancelled", "failed", "updated", "copied", "pruned", "gone",
    "empty")}  # fmt: skip
ASSISTANT = str(uuid.uuid5(uuid.NAMESPACE_URL, "upgrade/assistant"))
LATER_SECONDS = 600  # longer than this takes, and over when a test runs


def _say(*sentences: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": sentence, "id": f"said-{sentence}"} for sentence in sentences]}


async def use(client: LangGraphClient) -> None:
    """What people did with the server while it was that version."""
    for name, thread_id in THREADS.items():
        if name != "copied":
            await client.threads.create(thread_id=thread_id, metadata={"name": name, "owner": "ada"})
    wait, thread = client.runs.wait, THREADS

    for sentence in ("Hello", "Where is my order?", "Thanks"):
        await wait(thread["talk"], "talk", input=_say(sentence), metadata={"said": sentence})
    await wait(thread["drawing"], "drawing", input=_say("Draw a chair"))
    await wait(thread["asked"], "question", input={"steps": ["begin"]})
    await wait(thread["below"], "family", input={"steps": ["begin"]})
    await wait(thread["failed"], "failing", input={"steps": ["begin"]}, raise_error=False)

    await wait(thread["updated"], "talk", input=_say("Hello"))
    await client.threads.update_state(
        thread["updated"], {"messages": [{"role": "user", "content": "Hm", "id": "hm"}]}, as_node="reply"
    )
    await client.threads.update(thread["updated"], metadata={"title": "Chairs"})
    for sentence in ("Hello", "Bye"):
        await wait(thread["pruned"], "talk", input=_say(sentence))
    await client.threads.prune([thread["pruned"]], strategy="keep_latest")
    await wait(thread["gone"], "talk", input=_say("Hello"))
    await client.threads.delete(thread["gone"])
    copy = await client.http.post(f"/threads/{thread['talk']}/copy", json=None)
    thread["copied"] = copy["thread_id"]  # the server chose it

    await client.assistants.create(
        "talk", assistant_id=ASSISTANT, name="Sales", config={"tags": ["a"]}, metadata={"team": "a"}
    )
    await client.assistants.update(ASSISTANT, name="Support", context={"tone": "kind"})
    await client.assistants.update(ASSISTANT, name="Help")
    await client.assistants.set_latest(ASSISTANT, 2)

    run = await client.runs.create(thread["cancelled"], "gated", input={"steps": ["begin"]})
    await eventually(lambda: _has(client, thread["cancelled"], "one, then"))
    await client.runs.cancel(thread["cancelled"], run["run_id"], wait=True)

    await client.runs.create(thread["later"], "talk", input=_say("Wake up"), after_seconds=LATER_SECONDS)
    await client.runs.create(thread["held"], "gated", input={"steps": ["begin"]}, stream_resumable=True)
    await eventually(lambda: _has(client, thread["held"], "one, then"))
    await client.runs.create(thread["held"], "failing", input={"steps": ["second"]}, multitask_strategy="enqueue")


async def answers_about(client: LangGraphClient, threads: dict[str, str]) -> dict[str, Any]:
    """What the server returns about these threads and the assistant."""
    get, post = client.http.get, client.http.post
    shown: dict[str, Any] = {"threads": {}}
    for name, thread_id in threads.items():
        shown["threads"][name] = {
            "thread": await get(f"/threads/{thread_id}"),
            "state": await get(f"/threads/{thread_id}/state?subgraphs=true"),
            "history": await post(f"/threads/{thread_id}/history", json={"limit": 100}),
            "runs": await get(f"/threads/{thread_id}/runs?limit=100"),
        }
    shown["assistant"] = await get(f"/assistants/{ASSISTANT}")
    shown["versions"] = await post(f"/assistants/{ASSISTANT}/versions", json={})
    return shown


async def _has(client: LangGraphClient, thread_id: str, step: str) -> bool:
    return step in ((await client.threads.get_state(thread_id))["values"] or {}).get("steps", [])


async def _records(bootstrap: str, prefix: str) -> list[bytes]:
    """Every record of the log in Kafka, as it is there."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    lines = []
    try:
        for topic in ("commands", "events", "values", "stream"):
            for partition in range(PARTITIONS):
                place = TopicPartition(prefix + topic, partition)
                consumer.assign([place])
                await consumer.seek_to_beginning(place)
                end = (await consumer.end_offsets([place]))[place]
                while await consumer.position(place) < end:
                    for record in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                        headers = [[name, _text(value)] for name, value in record.headers]
                        line = [topic, partition, record.offset, _text(record.key), _text(record.value), headers]
                        lines.append(orjson.dumps(line))
    finally:
        await consumer.stop()
    return lines


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _dump(data: Path) -> bytes:
    uri = running_uri(data / "postgres")
    assert uri is not None
    options = ["--no-owner", "--no-privileges", "--rows-per-insert=50"]
    text = subprocess.run([binaries() / "pg_dump", *options, uri], check=True, capture_output=True).stdout
    return re.sub(rb"(?m)^\\(un)?restrict .*\n", b"", text)  # is for psql; the test sends the statements itself


@contextmanager
def _running(command: list[str], settings: dict[str, str]) -> Iterator[str]:
    """A server of that version; its url. It is killed, with the run that it has in flight."""
    env = {**os.environ, "THREADLOG_PORT": "0", "THREADLOG_EXECUTORS": "1", **settings}
    server = subprocess.Popen([*command, "up", "--config", str(APP)], env=env, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        for line in server.stdout:
            print(line, end="")
            if line.startswith("ready "):
                yield next(word for word in line.split() if word.startswith("http"))
                return
        raise SystemExit("the server did not start")
    finally:
        family = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        server.wait()
        psutil.wait_procs(family, timeout=30)  # they end with it


async def write(folder: Path, command: list[str], bootstrap: str | None) -> None:
    """The files of one mode."""
    name, prefix = ("kafka" if bootstrap else "embedded"), f"upgrade-{uuid.uuid4().hex[:8]}."
    settings = {"THREADLOG_TOPIC_PREFIX": prefix, "THREADLOG_PARTITIONS": str(PARTITIONS)}
    if bootstrap:
        settings["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap
    with (
        tempfile.TemporaryDirectory(prefix="tl-written-") as place,
        _running(command, {**settings, "THREADLOG_DATA_DIR": place}) as url,
    ):
        client = get_client(url=url)
        await use(client)
        shown = await answers_about(client, {name: i for name, i in THREADS.items() if name != "gone"})
        sql = await asyncio.to_thread(_dump, Path(place))
        if bootstrap:
            _write(folder / "kafka.records.xz", b"\n".join(await _records(bootstrap, prefix)))
    _write(folder / f"{name}.sql.xz", sql)
    _write(folder / f"{name}.answers.json.xz", orjson.dumps(shown))


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress(data))


def main(folder: Path, command: list[str]) -> None:
    asyncio.run(write(folder, command, None))
    cluster = KafkaCluster(1)
    cluster.start(say=print)
    try:
        asyncio.run(write(folder, command, cluster.bootstrap))
    finally:
        cluster.stop()


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(Path(sys.argv[1]), sys.argv[split + 1 :])
