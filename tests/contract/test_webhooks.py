"""Webhooks: a receiver of this process is told how runs end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.servers import Server
from tests.waiting import eventually

from .gate import Gate

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"
SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgY29udHJhY3QncyB0ZXN0cw=="


@dataclass
class Receiver:
    """Takes every POST; `answers` are the statuses of the next ones, by path. `before_answer`: called with the path."""

    url: str = ""
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    hanging: int = 0
    before_answer: Callable[[str], object] = lambda path: None

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/hang":
            self.hanging += 1
            await asyncio.Event().wait()
        self.received.append((request.path, {k.lower(): v for k, v in request.headers.items()}, body))
        self.before_answer(request.path)
        statuses = self.answers.get(request.path)
        status = statuses.pop(0) if statuses else 204
        return web.Response(status=status, headers={"Location": self.url} if status == 302 else None)

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [orjson.loads(body) for at, _, body in self.received if at == path]

    async def body(self, path: str) -> dict[str, Any]:
        """The first body that is received at a path."""
        return (await eventually(lambda: self.bodies(path)))[0]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


def verifier() -> Callable[..., None]:
    """The function that the docs give to receivers."""
    (snippet,) = [
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "def verify" in block
    ]
    names: dict[str, Any] = {}
    exec(snippet, names)
    verify: Callable[..., None] = names["verify"]
    return verify


@pytest.mark.contract(163)
async def test_a_run_is_told_with_its_status_and_values(
    client: LangGraphClient, thread_id: str, receiver: Receiver
) -> None:
    run = await client.runs.create(
        thread_id, "noop", input={"items": ["x"]}, metadata={"m": 1}, webhook=f"{receiver.url}/done?a=1"
    )
    body = await receiver.body("/done")
    await client.runs.join(thread_id, run["run_id"])
    assert (body["run_id"], body["thread_id"], body["status"]) == (run["run_id"], thread_id, "success")
    assert body["values"] == {"items": ["x", "a", "b"]} and "error" not in body
    assert body["metadata"]["m"] == 1 and body["kwargs"]["webhook"] == f"{receiver.url}/done?a=1"
    times = [body[name] for name in ("created_at", "run_started_at", "run_ended_at", "webhook_sent_at")]
    assert times == sorted(times) and body["updated_at"] == body["run_ended_at"]
    assert set(body) == {
        "run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs", "multitask_strategy", "created_at",
        "updated_at", "langsmith_session_name", "run_started_at", "run_ended_at", "webhook_sent_at", "values",
    }  # fmt: skip


async def test_a_receiver_can_tell_that_this_server_sent_it(
    client: LangGraphClient, thread_id: str, receiver: Receiver
) -> None:
    await client.runs.wait(thread_id, "noop", input={}, webhook=f"{receiver.url}/signed")
    await receiver.body("/signed")
    ((_, headers, body),) = receiver.received
    verify = verifier()
    verify(SECRET, headers, body)
    assert headers["authorization"] == "Bearer token" and headers["content-type"] == "application/json"
    for spoilt in (
        (SECRET, headers, body + b" "),
        (SECRET, {**headers, "webhook-id": "other"}, body),
        (SECRET, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}, body),
        ("whsec_" + "A" * 32, headers, body),
    ):
        with pytest.raises(ValueError):
            verify(*spoilt)


@pytest.mark.contract(163)
async def test_an_interrupt_counts_as_success(client: LangGraphClient, thread_id: str, receiver: Receiver) -> None:
    await client.runs.wait(thread_id, "ask", input={}, webhook=f"{receiver.url}/asked")
    body = await receiver.body("/asked")
    assert body["status"] == "success" and "error" not in body and "__interrupt__" not in body["values"]


async def test_a_failure_is_told_with_its_error(client: LangGraphClient, thread_id: str, receiver: Receiver) -> None:
    run = await client.runs.create(thread_id, "flaky", input={"n": 0}, webhook=f"{receiver.url}/failed")
    body = await receiver.body("/failed")
    assert (body["run_id"], body["status"]) == (run["run_id"], "error")
    assert body["error"] == {"error": "ValueError", "message": "kaboom"} and body["values"]["items"] == ["first"]


async def test_a_stateless_run_has_no_values_left(client: LangGraphClient, receiver: Receiver) -> None:
    await client.runs.wait(None, "noop", input={"items": []}, webhook=f"{receiver.url}/gone")
    await client.runs.wait(None, "noop", input={"items": []}, webhook=f"{receiver.url}/kept", on_completion="keep")
    gone, kept = await receiver.body("/gone"), await receiver.body("/kept")
    assert gone["status"] == "success" and gone["values"] is None and gone["kwargs"]["input"] == {"items": []}
    assert kept["values"] == {"items": ["a", "b"]}


@pytest.mark.contract(163)
async def test_cancelled_runs(client: LangGraphClient, thread_id: str, receiver: Receiver, gate: Gate) -> None:
    """One that ran is told when it has stopped, one that waited is not."""
    running = await client.runs.create(thread_id, "gated", input=gate.input, webhook=f"{receiver.url}/cancelled")
    await gate.entered(running["run_id"])
    waiting = await client.runs.create(thread_id, "noop", input={}, webhook=f"{receiver.url}/pending")
    await client.runs.cancel(thread_id, waiting["run_id"])
    await client.runs.cancel(thread_id, running["run_id"], wait=True)
    body = await receiver.body("/cancelled")
    assert body["status"] == "interrupted" and body["error"]["error"] == "UserInterrupt"
    assert body["values"]["items"] == ["first"]
    undone = await client.runs.create(thread_id, "gated", input=gate.input, webhook=f"{receiver.url}/undone")
    await gate.entered(undone["run_id"])
    await client.runs.cancel(thread_id, undone["run_id"], action="rollback", wait=True)
    body = await receiver.body("/undone")
    assert (body["status"], body["values"], body["error"]["error"]) == ("rollback", None, "UserRollback")
    assert receiver.bodies("/pending") == []


async def test_what_failed_is_sent_again_under_the_same_id_and_its_fate_is_in_the_log(
    client: LangGraphClient, thread_id: str, receiver: Receiver, server: Server
) -> None:
    receiver.answers = {"/again": [503, 429], "/moved": [302], "/refused": [404]}
    run = await client.runs.create(thread_id, "noop", input={}, webhook=f"{receiver.url}/again")
    await eventually(lambda: receiver.bodies("/again"), lambda bodies: len(bodies) == 3)
    ids = {headers["webhook-id"] for _, headers, _ in receiver.received}
    assert ids == {run["run_id"]}
    for path in ("/moved", "/refused"):
        await client.runs.create(thread_id, "noop", input={}, webhook=f"{receiver.url}{path}")
        await receiver.body(path)

    async def fates() -> list[tuple[str, int, int | None]]:
        shown = await asyncio.to_thread(server.threadlog, "events", "--thread", thread_id, "--json")
        assert shown.returncode == 0, shown.stderr
        events = [orjson.loads(line)["event"] for line in shown.stdout.splitlines()]
        return [
            (event["type"], event["attempt"], event.get("status"))
            for event in events
            if event["type"].startswith("webhook.") and "attempt" in event
        ]

    assert await eventually(fates, lambda found: len(found) == 5) == [
        ("webhook.failed", 1, 503),
        ("webhook.failed", 2, 429),
        ("webhook.delivered", 3, 204),
        ("webhook.dead", 1, 302),
        ("webhook.dead", 1, 404),
    ]
    assert len(receiver.bodies("/moved")) == len(receiver.bodies("/refused")) == 1


async def test_a_receiver_that_hangs_delays_no_run_and_no_other(
    client: LangGraphClient, thread_id: str, receiver: Receiver
) -> None:
    for _ in range(6):
        await client.runs.wait(thread_id, "noop", input={}, webhook=f"{receiver.url}/hang")
    await eventually(lambda: receiver.hanging)
    other = receiver.url.replace("127.0.0.1", "localhost")  # another receiver, as far as the server can tell
    await client.runs.wait(thread_id, "noop", input={}, webhook=f"{other}/swift")
    await receiver.body("/swift")
    assert receiver.received[0][0] == "/swift", "before any attempt at the one that hangs has ended"


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ("ftp://x/y", "scheme 'ftp' not allowed"),
        ("http:///x", "Invalid webhook hostname ''"),
        ("http://169.254.169.254/latest", "Webhook host blocked: blocked IP range"),
        ("http://[64:ff9b::a9fe:a9fe]/", "Webhook host blocked: blocked IP range"),
        ("", "webhook"),
    ],
)
@pytest.mark.contract(164)
async def test_a_url_that_nothing_would_be_sent_to_is_refused(
    http: httpx.AsyncClient, thread_id: str, webhook: str, said: str
) -> None:
    response = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "noop", "webhook": webhook})
    assert response.status_code == 422 and said in response.json()["detail"]


GRAPH = """
from langgraph.graph import StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: str


graph = StateGraph(State).add_node("say", lambda state: {"said": "yes"}).add_edge("__start__", "say").compile()
"""
ALLOWED = {"url": {"disable_loopback": False, "require_https": False}}


async def test_an_engine_that_is_killed_between_the_post_and_its_record_sends_it_again(
    own_server: Callable[..., Server], receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "agent.py").write_text(GRAPH)
    config = {"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}, "webhooks": ALLOWED}
    (tmp_path / "langgraph.json").write_text(orjson.dumps(config).decode())
    server = await asyncio.to_thread(own_server, tmp_path / "langgraph.json", executors=1)
    engine = "server" if "server" in server.pids else "engine"

    async def restarted(pid: int) -> None:
        await asyncio.to_thread(server.wait_replaced, engine, pid)
        await asyncio.to_thread(server.wait_ok)

    async def recorded(thread: str) -> list[str]:
        said = await asyncio.to_thread(server.threadlog, "events", "--thread", thread)
        return re.findall(r"webhook\.\w+", said.stdout)

    killed: list[int] = []
    receiver.before_answer = lambda path: killed.append(server.kill(engine)) if path == "/a" and not killed else None
    async with get_client(url=server.url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "agent", input={}, webhook=f"{receiver.url}/a")
        await eventually(lambda: killed)
        await restarted(killed[0])
        await eventually(lambda: len(receiver.bodies("/a")) == 2)
        ids = [headers["webhook-id"] for path, headers, _ in receiver.received if path == "/a"]
        assert ids == [run["run_id"]] * 2
        assert {body["status"] for body in receiver.bodies("/a")} == {"success"}
        fate = ["webhook.requested", "webhook.delivered"]
        await eventually(lambda: recorded(thread), lambda events: events == fate)

        # What is delivered is sent no more: not by the owner after the next one either, which sends what is left.
        await restarted(server.kill(engine))
        await client.runs.wait(thread, "agent", input={}, webhook=f"{receiver.url}/b")
        await receiver.body("/b")
        await eventually(lambda: recorded(thread), lambda events: events == fate * 2)
        assert len(receiver.bodies("/a")) == 2 and len(receiver.bodies("/b")) == 1
