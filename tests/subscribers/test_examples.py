"""The examples of deploy/examples/subscribers, run as their users do, on both logs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.js.test_smoke import install
from tests.subscribers.logs import MIXED, append, decided, start
from tests.subscribers.systems import PARTITIONS, InKafka, InPostgres, System
from tests.waiting import eventually
from threadlog.engine.domain.events import Event, RunCreated, RunReleased, RunSucceeded
from threadlog.engine.domain.wire import event_to_wire

pytestmark = pytest.mark.server

EXAMPLES = Path(__file__).parent.parent.parent / "deploy" / "examples" / "subscribers"
T, R1, R2 = (f"00000000-0000-4000-8000-00000000000{n}" for n in range(3))


def environment(system: System) -> dict[str, str]:
    where = (
        {"DATABASE_URI": system.dsn}
        if isinstance(system, InPostgres)
        else {"KAFKA_BOOTSTRAP_SERVERS": system.bootstrap}  # type: ignore[attr-defined]
    )
    return {**os.environ, **where, "THREADLOG_TOPIC_PREFIX": system.prefix, "THREADLOG_PARTITIONS": str(PARTITIONS)}


@asynccontextmanager
async def running(*command: object, cwd: Path, env: dict[str, str]) -> AsyncIterator[list[str]]:
    """The lines it prints, as they come."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        limit=16 * 1024 * 1024,
    )  # fmt: skip
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(line.decode(errors="replace").rstrip())

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
        await reading


async def write(system: System, *decisions: tuple[Event, ...]) -> None:
    values = [start(1)]
    for n, events in enumerate(decisions):
        values.append(decided(1, n, n - 1, *map(event_to_wire, events)))
    await append(system.log, 1, *values, values[-1])  # the last one twice, as no reader should see


def created(run_id: str, customer: str) -> RunCreated:
    return RunCreated(thread_id=T, run_id=run_id, graph_id="g", run={"metadata": {"customer": customer}})


async def test_a_chat_is_told_when_a_run_waits_for_an_answer(system: System, tmp_path: Path) -> None:
    posted: list[Any] = []

    async def receive(request: web.Request) -> web.Response:
        posted.append(await request.json())
        return web.Response(status=500 if len(posted) == 1 else 200)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    env = {**environment(system), "CHAT_URL": f"http://127.0.0.1:{port}/hook"}
    interrupts = {"task": [{"id": "i", "value": "Refund 40 EUR?"}]}
    await write(
        system,
        (created(R1, "ann"),),
        (RunSucceeded(thread_id=T, run_id=R1, attempt=1),),
        (RunSucceeded(thread_id=T, run_id=R2, attempt=1, next=["ask"], interrupts=interrupts),),
    )
    try:
        command = (sys.executable, EXAMPLES / "chat.py", "worker", "--without-web", "-l", "info")
        async with running(*command, cwd=tmp_path, env=env) as lines:
            await eventually(lambda: posted, says=lambda: "\n".join(lines))
        async with running(*command, cwd=tmp_path, env=env) as lines:  # the chat was away: it is told again
            await eventually(lambda: len(posted) >= 2, says=lambda: "\n".join(lines))
    finally:
        await runner.cleanup()
    assert posted == [{"text": f"Thread {T} asks: ['Refund 40 EUR?']"}] * 2


async def test_tokens_are_billed_once_whatever_comes_twice(system: System, tmp_path: Path) -> None:
    def used(tokens: int) -> dict[str, Any]:
        return {"gpt": {"calls": 1, "total_tokens": tokens}}

    await write(
        system,
        (created(R1, "ann"),),
        (created(R2, "bob"),),
        (RunReleased(thread_id=T, run_id=R1, attempt=1, usage=used(3)),),
        (RunSucceeded(thread_id=T, run_id=R1, attempt=2, usage=used(5)),),
        (RunSucceeded(thread_id=T, run_id=R2, attempt=1, usage=used(7)),),
    )

    def bills() -> dict[str, int]:
        with sqlite3.connect(tmp_path / "bills.sqlite") as db, suppress(sqlite3.OperationalError):  # no tables yet
            return dict(db.execute("SELECT customer, sum(tokens) FROM bills GROUP BY customer"))
        return {}

    command = (sys.executable, EXAMPLES / "bill.py", "worker", "--without-web", "-l", "info")
    async with running(*command, cwd=tmp_path, env=environment(system)) as lines:
        await eventually(
            lambda: (tmp_path / "bills.sqlite").exists() and bills(),
            lambda found: found == {"ann": 8, "bob": 7},
            says=lambda: "\n".join(lines),
        )


@pytest.mark.kafka
@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=pytest.mark.js)])
async def test_other_clients_of_the_topic_get_what_counts(
    language: str, in_kafka: InKafka, opened_kafka: None, tmp_path: Path
) -> None:
    await append(in_kafka.log, 3, *MIXED)
    command: tuple[object, ...] = (sys.executable, EXAMPLES / "read_topic.py")
    if language == "javascript":
        packages = await asyncio.to_thread(install, Path(__file__).parent.parent / "js" / "subscribers")
        for name in ("read_topic.mjs", "accepted_events.mjs"):
            shutil.copy(EXAMPLES / name, tmp_path)
        (tmp_path / "node_modules").symlink_to(packages / "node_modules")
        command = ("node", "read_topic.mjs")
    async with running(*command, cwd=tmp_path, env=environment(in_kafka)) as lines:
        await eventually(lambda: [line for line in lines if '"n":' in line][3:], says=lambda: "\n".join(lines))
    events = [json.loads(line) for line in lines if '"n":' in line]
    assert [event["n"] for event in events] == [0, 1, 2, 3]
    assert events[0]["position"] == [3, 1] and len(events[2]["large"]) == 1_200_000


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = (EXAMPLES.parent.parent.parent / "docs" / "subscribers.md").read_text()
    for name in ("chat.py", "read_topic.py"):
        code = (EXAMPLES / name).read_text().split('"""\n\n', 1)[1]
        assert f"```python\n{code}```" in page, name
