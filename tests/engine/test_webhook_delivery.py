"""Signing, the schedule, the POST itself, and the dispatcher: what is sent when, and what is reported."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web

from tests.waiting import eventually
from threadlog.engine.domain.webhooks import waits
from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.records import CommandEnvelope, EventRecord
from threadlog.engine.processor.ports import EventListener
from threadlog.engine.user_code.webhook_rules import WebhookRules
from threadlog.engine.webhooks import dispatcher
from threadlog.engine.webhooks.dispatcher import WebhookDispatcher
from threadlog.engine.webhooks.guard import NamesBusy, UrlGuard
from threadlog.engine.webhooks.ports import DueWebhook, Look, WebhookMessage
from threadlog.engine.webhooks.schedule import RetrySchedule, retry_after
from threadlog.engine.webhooks.sender import Delivery, WebhookSender
from threadlog.engine.webhooks.signing import keys_of, signature

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THREAD = "00000000-0000-4000-8000-0000000000aa"


def run_id(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012d}"


# --- signing ---------------------------------------------------------------------------------------------------------


def test_the_example_of_the_standard_is_signed_as_there() -> None:
    keys = keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = signature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature((*keys, b"x" * 24), "i", 1, b"").count("v1,") == 2


@pytest.mark.parametrize(
    "secret", ["whsec_", "abc", "whsec_!!!!", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
def test_a_secret_of_another_form_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        keys_of(secret)


# --- schedule --------------------------------------------------------------------------------------------------------


def test_waits_grow_to_an_hour_and_end() -> None:
    schedule = RetrySchedule()
    assert [schedule.wait(n, 0.5) for n in range(1, 9)] == [5, 20, 80, 320, 1280, 3600, 3600, None]
    assert schedule.wait(1, 0) == 4 and schedule.wait(1, 1) == 6
    assert schedule.wait(1, 0.5, 60) == 60 and schedule.wait(3, 0.5, 1) == 80 and schedule.wait(1, 0.5, 1e9) == 86_400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), (" 7 ", 7), ("Thu, 01 Jan 2026 00:01:00 GMT", 60), ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
     ("soon", None), ("-1", None), ("", None), (None, None), ("٣", None)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_time(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


# --- the POST --------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    url: str
    port: int
    seen: list[str] = field(default_factory=list)
    authorized_as: str | None = None


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A receiver that answers what its path says."""

    async def handle(request: web.Request) -> web.StreamResponse:
        receiver.seen.append(request.path)
        receiver.authorized_as = request.headers.get("Authorization")
        match request.path.strip("/"):
            case "hang":
                await asyncio.Event().wait()
            case "endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x" * 1000)
                    await asyncio.sleep(0.01)
            case "close":
                assert request.transport is not None
                request.transport.close()
            case status:
                return web.Response(
                    status=int(status), headers={"Location": "/200", "Retry-After": "9"} if status[0] in "35" else {}
                )
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    receiver = Place(f"http://127.0.0.1:{port}", port)
    yield receiver
    await runner.cleanup()


async def sent(
    url: str, *resolves: str, private: bool = True, seconds: float = 30, headers: dict[str, str] | None = None
) -> Delivery:
    async def resolve(host: str, port: int) -> Sequence[Any]:
        if not resolves:
            raise OSError("no such host")
        return [ip_address(text) for text in resolves]

    guard = UrlGuard(WebhookRules(private=private, headers=headers or {}), resolve, own_url="http://127.0.0.1:1")
    sender = WebhookSender(guard, (), seconds=seconds, user_agent="test")
    try:
        return await sender.send(url, "id", b"{}")
    finally:
        await sender.aclose()


@pytest.mark.parametrize(
    ("path", "delivery"),
    [
        ("200", Delivery("delivered", 200)),
        ("204", Delivery("delivered", 204)),
        ("307", Delivery("dead", 307, "redirects are not followed")),
        ("404", Delivery("dead", 404, "the receiver refused it")),
        ("429", Delivery("failed", 429)),
        ("503", Delivery("failed", 503, None, 9.0)),
        ("endless", Delivery("delivered", 200)),
    ],
)
async def test_the_status_decides(place: Place, path: str, delivery: Delivery) -> None:
    assert await sent(f"{place.url}/{path}") == delivery
    assert place.seen == [f"/{path}"]


async def test_an_address_in_another_form_is_connected_to(place: Place) -> None:
    for host in ("127.1", "2130706433", "0x7f000001"):
        assert await sent(f"http://{host}:{place.port}/200") == Delivery("delivered", 200), host


async def test_a_user_in_the_url_stands_instead_of_the_configured_authorization(place: Place) -> None:
    headers = {"authorization": "Bearer of-all", "X-Other": "1"}
    assert await sent(f"{place.url}/200", headers=headers) == Delivery("delivered", 200)
    assert place.authorized_as == "Bearer of-all"
    assert await sent(f"http://ann:secret@127.0.0.1:{place.port}/200", headers=headers) == Delivery("delivered", 200)
    assert place.authorized_as == "Basic YW5uOnNlY3JldA=="


async def test_without_a_response_it_is_tried_again(place: Place) -> None:
    for url, seconds in (
        (f"{place.url}/hang", 0.2),
        (f"{place.url}/close", 30),
        ("http://127.0.0.1:1/", 30),
        ("http://no/", 30),
    ):
        delivery = await sent(url, seconds=seconds)
        assert (delivery.outcome, delivery.status) == ("failed", None) and delivery.reason


async def test_a_name_that_resolves_to_this_machine_is_not_connected_to(place: Place) -> None:
    delivery = await sent(f"http://hooks.example.org:{place.port}/200", "127.0.0.1", private=False)
    assert (delivery.outcome, delivery.reason) == ("dead", "Webhook host blocked: loopback IP range")
    delivery = await sent(f"http://0x7f000001:{place.port}/200", private=False)
    assert delivery.outcome == "dead" and place.seen == []


async def test_the_address_that_was_checked_is_the_one_connected_to(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another look-up of the name, if there were one, would go elsewhere."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the name was looked up again"))
    assert await sent(f"http://hooks.example.org:{place.port}/200", "127.0.0.1") == Delivery("delivered", 200)


async def test_a_name_that_could_not_be_asked_for_is_no_attempt() -> None:
    async def resolve(host: str, port: int) -> Sequence[Any]:
        raise NamesBusy("32 other names wait for their name servers")

    guard = UrlGuard(WebhookRules(private=True), resolve, own_url="http://127.0.0.1:1")
    sender = WebhookSender(guard, (), seconds=30, user_agent="test")
    try:
        with pytest.raises(NamesBusy, match="32 other names"):
            await sender.send("http://example.org/", "id", b"{}")
    finally:
        await sender.aclose()


async def test_the_last_gate_is_the_socket(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever passes the text and the resolver."""
    monkeypatch.setattr(UrlGuard, "absolute", lambda self, webhook: webhook)
    delivery = await sent(f"{place.url}/200", private=False)
    assert (delivery.outcome, delivery.reason) == ("dead", "Webhook host blocked: loopback IP range")
    assert place.seen == []


# --- the dispatcher --------------------------------------------------------------------------------------------------


class Engine:
    """The read models and the processor in one: what is reported is decided at once, unless `lost`."""

    owner = "me"

    def __init__(self, *due: DueWebhook) -> None:
        self.rows = {one.run_id: one for one in due}
        self.mine = True
        self.lost = 0
        self.reports: list[dict[str, Any]] = []
        self.listener: EventListener

    @property
    def owned(self) -> Sequence[int]:
        return [0] if self.mine else []

    def owns(self, partition: int) -> bool:
        return self.mine

    def known(self, key: str) -> None:
        return None

    def add_listener(self, listener: EventListener) -> None:
        self.listener = listener

    async def look(
        self,
        partitions: Sequence[int],
        *,
        without: Collection[str],
        full: Collection[str],
        per_receiver: int,
        limit: int,
    ) -> Look:
        due = [row for row in self.rows.values() if row.run_id not in without and row.receiver not in full]
        of_receiver: Counter[str] = Counter()
        some = []
        for row in due:
            of_receiver[row.receiver] += 1
            if of_receiver[row.receiver] <= per_receiver:
                some.append(row)
        return Look(some[:limit], None)

    async def message(self, due: DueWebhook, owner: str) -> WebhookMessage | None:
        return WebhookMessage(f"http://{due.receiver}/", b"{}") if self.rows.get(due.run_id) == due else None

    async def send(self, envelope: CommandEnvelope) -> None:
        if self.lost:
            self.lost -= 1
            raise LogUnavailable("away")
        self.reports.append({"id": envelope.id, **envelope.body})
        self.rows.pop(envelope.body["run_id"], None)
        event = {"type": f"webhook.{envelope.body['outcome']}", "run_id": envelope.body["run_id"]}
        self.listener.projected(0, 0, EventRecord(1, 0, envelope.id, envelope.key, "", [event]))


def due(n: int, receiver: str = "a", attempt: int = 1) -> DueWebhook:
    return DueWebhook(run_id(n), THREAD, 0, attempt, receiver)


@dataclass
class Network:
    """Receivers named `hang…` do not respond; others do as told."""

    delivery: Delivery = field(default_factory=lambda: Delivery("delivered", 200))
    sent: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    busy: int = 0

    async def post(self, url: str, id: str, body: bytes) -> Delivery:
        self.sent.append(url.split("/")[2])
        self.ids.append(id)
        if self.busy:
            self.busy -= 1
            raise NamesBusy("other names wait")
        if url.startswith("http://hang"):
            await asyncio.Event().wait()
        return self.delivery


@pytest.fixture
async def started(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[WebhookDispatcher]]:
    monkeypatch.setattr(dispatcher, "_STOP_SECONDS", 0)
    running: list[WebhookDispatcher] = []
    yield running
    for one in running:
        await one.stop()


def begin(engine: Engine, network: Network, running: list[WebhookDispatcher]) -> WebhookDispatcher:
    one = WebhookDispatcher(engine, engine, network.post, RetrySchedule())
    one.start()
    running.append(one)
    return one


async def test_what_is_due_is_sent_and_reported(started: list[WebhookDispatcher]) -> None:
    engine, network = Engine(due(1), due(2, "b", attempt=3)), Network()
    begin(engine, network, started)
    await eventually(lambda: len(engine.reports) == 2)
    assert {report["id"] for report in engine.reports} == {f"webhook:{run_id(1)}:1", f"webhook:{run_id(2)}:3"}
    assert sorted(network.ids) == [run_id(1), run_id(2)]


async def test_a_failure_is_reported_with_the_time_of_the_next_attempt_and_the_last_as_the_end(
    started: list[WebhookDispatcher],
) -> None:
    engine, network = Engine(due(1), due(2, attempt=8)), Network(Delivery("failed", 503))
    begin(engine, network, started)
    first, last = sorted(await eventually(lambda: engine.reports, lambda r: len(r) == 2), key=lambda r: r["run_id"])
    assert first["outcome"] == "failed" and datetime.fromisoformat(first["due_at"]) > datetime.now(UTC)
    assert last["outcome"] == "dead" and "due_at" not in last


async def test_what_could_not_be_begun_is_sent_later_and_counts_as_no_attempt(
    started: list[WebhookDispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "NAMES_SECONDS", 0.1)
    engine, network = Engine(due(1, attempt=8), due(2, "b")), Network()
    network.busy = 3
    begin(engine, network, started)
    await eventually(lambda: len(engine.reports) == 2)
    assert {report["id"]: report["outcome"] for report in engine.reports} == {
        f"webhook:{run_id(1)}:8": "delivered",
        f"webhook:{run_id(2)}:1": "delivered",
    }
    assert len(network.sent) == 5


async def test_what_was_sent_is_only_reported_again(started: list[WebhookDispatcher]) -> None:
    engine, network = Engine(due(1)), Network()
    engine.lost = 3
    begin(engine, network, started)
    await eventually(lambda: engine.reports)
    assert len(network.sent) == 1


async def test_a_partition_that_is_lost_is_reported_for_no_more(started: list[WebhookDispatcher]) -> None:
    engine, network = Engine(due(1)), Network()
    engine.lost = 10**9
    one = begin(engine, network, started)
    await eventually(lambda: network.sent)
    engine.mine = False
    await eventually(lambda: one.in_flight == 0)
    assert engine.reports == []


async def test_a_receiver_that_hangs_holds_up_no_other(started: list[WebhookDispatcher]) -> None:
    hanging = [due(n, "hang") for n in range(100)]
    engine, network = Engine(*hanging, *(due(1000 + n, "b") for n in range(20))), Network()
    one = begin(engine, network, started)
    await eventually(lambda: len(engine.reports) == 20)
    assert one.in_flight == network.sent.count("hang") == dispatcher.PER_RECEIVER


async def test_many_that_hang_leave_room_for_first_attempts(started: list[WebhookDispatcher]) -> None:
    hanging = [due(n, f"hang{n}", attempt=2) for n in range(dispatcher.IN_ALL)]
    engine, network = Engine(*hanging), Network()
    begin(engine, network, started)
    await eventually(lambda: len(network.sent) == dispatcher.IN_ALL // 2)
    engine.rows = {run_id(1000): due(1000, "b"), **engine.rows}
    event = {"type": "webhook.requested", "run_id": run_id(1000)}
    engine.listener.projected(0, 0, EventRecord(1, 0, "c", THREAD, "", [event]))
    await eventually(lambda: engine.reports)


def test_a_thread_that_is_not_known_waits_for_nothing() -> None:
    assert not waits({}, run_id(1), 1)
