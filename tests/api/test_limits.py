"""What a request may hold: beyond a limit it is refused with its name and the number, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import gzip
import re
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import yarl

import threadlog.api
from threadlog.api.http import json_text, limits
from threadlog.engine.domain.limits import DEPTH, INDEXED_BYTES, METADATA_KEYS

from .api_harness import ApiHarness

API = Path(threadlog.api.__file__).parent


def nested(levels: int) -> bytes:
    """A list in a list in a list …"""
    return b"[" * levels + b"]" * levels


@cache
def keys(count: int) -> dict[str, int]:
    return {f"key-{number}": number for number in range(count)}


def run(**fields: Any) -> dict[str, Any]:
    return {"assistant_id": "noop", **fields}


# Path, a body with `items` at the place of X, how many are allowed there.
PLACES: list[tuple[str, bytes]] = [
    ("/threads", b'{"metadata": {"x": X}}'),
    ("/threads", b'{"from_the_future": X}'),
    ("/threads/search", b'{"metadata": {"x": X}}'),
    ("/threads/search", b'{"values": {"x": X}}'),
    ("/threads/count", b'{"values": {"x": X}}'),
    ("/threads/{thread}/history", b'{"metadata": {"x": X}}'),
    ("/threads/{thread}/runs", b'{"assistant_id": "noop", "input": X}'),
    ("/threads/{thread}/runs", b'{"assistant_id": "noop", "command": {"resume": X}}'),
    ("/threads/{thread}/runs", b'{"assistant_id": "noop", "config": {"configurable": {"x": X}}}'),
    ("/threads/{thread}/runs", b'{"assistant_id": "noop", "context": {"x": X}}'),
    ("/runs/batch", b'[{"assistant_id": "noop", "input": X}]'),
    ("/runs/wait", b'{"assistant_id": "noop", "input": X}'),
    ("/threads/{thread}/state", b'{"values": X}'),
    ("/assistants", b'{"graph_id": "noop", "metadata": {"x": X}}'),
    ("/assistants/search", b'{"metadata": {"x": X}}'),
]


@pytest.mark.parametrize("levels", [DEPTH + 1, 253, 254, 400, 1000, 2000, 100_000])
async def test_a_body_nested_too_deeply_is_refused_by_that_name(api: ApiHarness, levels: int) -> None:
    thread_id = await api.thread()
    for path, body in PLACES:
        async with api.client.post(path.format(thread=thread_id), data=body.replace(b"X", nested(levels))) as answer:
            text = (await answer.json())["detail"]
            assert (answer.status, f"nested too deeply: at most {DEPTH} " in text) == (422, True), (path, body, text)
    assert (await api.call("POST", "/threads/count", {"metadata": {"x": []}})) == 0


async def test_a_body_as_deep_as_allowed_is_stored_and_shown(api: ApiHarness) -> None:
    body = b'{"metadata": {"x": %b}}' % nested(DEPTH - 2)
    async with api.client.post("/threads", data=body) as answer:
        assert answer.status == 200
        made = await answer.json()
    assert await api.call("GET", f"/threads/{made['thread_id']}") == made
    deep = orjson.loads(nested(DEPTH - 1))
    created = await api.run(made["thread_id"], input=deep)
    assert created["kwargs"]["input"] == deep
    assert (await api.call("GET", f"/threads/{made['thread_id']}/runs"))[0]["kwargs"]["input"] == deep
    async with api.client.post("/threads/search", data=body) as answer:
        assert [thread["thread_id"] for thread in await answer.json()] == [made["thread_id"]]


def test_brackets_in_text_are_not_levels() -> None:
    value = {"text": "[{" * 1000, "items": [[]] * 1000}
    assert json_text.read(orjson.dumps(value)) == value


def test_values_are_counted_at_all_levels() -> None:
    value = {"a": [1, 2, {"b": []}], "c": {"d": None}}
    assert json_text.count_values(value) == 8
    most = json_text.VALUES
    too_many = f"The request body has {most + 1} values or more; at most {most} are allowed"
    assert refusal(orjson.dumps([0] * most)) == too_many
    objects = orjson.dumps([{"a": 1}] * (most + 1))
    assert refusal(objects) == too_many
    for text in (objects.decode(), "," * (2 * most)):  # JSON in a text
        assert json_text.read(orjson.dumps([text])) == [text]


def refusal(raw: bytes) -> str:
    with pytest.raises(json_text.Unreadable) as error:
        json_text.read(raw)
    return str(error.value)


ids = [str(uuid4())]
TOO_MANY: list[tuple[str, Any, str, int, int]] = [
    ("/threads", {"metadata": keys(METADATA_KEYS + 5)}, "metadata", METADATA_KEYS + 5, METADATA_KEYS),
    ("/threads", {"metadata": {"x": {"y": list(range(METADATA_KEYS))}}}, "metadata", METADATA_KEYS + 2, METADATA_KEYS),
    ("PATCH /threads/{thread}", {"metadata": keys(METADATA_KEYS + 1)}, "metadata", METADATA_KEYS + 1, METADATA_KEYS),
    ("/threads/search", {"metadata": keys(1001)}, "metadata", 1001, limits.FILTER_KEYS),
    ("/threads/search", {"values": {"x": [0] * 1001}}, "values", 1002, limits.FILTER_KEYS),
    ("/threads/count", {"values": keys(200_000)}, "values", 200_000, limits.FILTER_KEYS),
    ("/threads/search", {"ids": ids * 1001}, "ids", 1001, limits.THREADS),
    ("/threads/search", {"select": ["values"] * 5000}, "select", 5000, limits.NAMES),
    ("/threads/search", {"extract": {str(n): "values.x" for n in range(11)}}, "extract", 11, 10),
    ("/threads/search", {"extract": {"a": "values" + ".x" * 5000}}, "extract.a", 10_006, limits.NAME_CHARACTERS),
    ("/threads/prune", {"thread_ids": ids * 50_000}, "thread_ids", 50_000, limits.THREADS),
    ("/threads", {"supersteps": [{"updates": []}] * 5000}, "supersteps", 5000, limits.UPDATES),
    ("/threads", {"supersteps": [{"updates": [{}] * 600}] * 2}, "supersteps", 1200, limits.UPDATES),
    ("/threads/{thread}/state", {"values": [{}] * 1001}, "values", 1001, limits.UPDATES),
    ("/threads/{thread}/state", {"as_node": "x" * 1001}, "as_node", 1001, limits.NAME_CHARACTERS),
    ("/threads/{thread}/state", {"checkpoint_id": "x" * 651}, "checkpoint_id", 651, limits.CHECKPOINT_CHARACTERS),
    ("/threads/{thread}/history", {"metadata": keys(1001)}, "metadata", 1001, limits.FILTER_KEYS),
    ("/runs/cancel", {"thread_id": ids[0], "run_ids": ids * 50_000}, "run_ids", 50_000, limits.RUNS),
    ("/runs/batch", [run()] * 1001, "", 1001, limits.RUNS),
    ("/runs", run(metadata=keys(200_000)), "metadata", 200_000, METADATA_KEYS),
    ("/runs", run(context=keys(200_000)), "context", 200_000, METADATA_KEYS),
    ("/runs", run(config={"configurable": keys(200_000)}), "config", 200_001, METADATA_KEYS),
    ("/runs", run(config={"tags": ["x"] * 1001}), "config.tags", 1001, limits.NAMES),
    ("/runs", run(interrupt_before=["x"] * 1001), "interrupt_before", 1001, limits.NAMES),
    ("/runs", run(stream_mode=["values"] * 1001), "stream_mode", 1001, limits.NAMES),
    ("/runs", run(checkpoint={"checkpoint_ns": "x" * 5000}), "checkpoint.checkpoint_ns", 5000, INDEXED_BYTES // 4),
    ("/runs", {"assistant_id": "x" * 5000}, "assistant_id", 5000, INDEXED_BYTES // 4),
    ("/assistants", {"graph_id": "noop", "name": "ü" * 5000}, "name", 5000, INDEXED_BYTES // 4),
    ("/assistants", {"graph_id": "noop", "description": "x" * 100_001}, "description", 100_001, limits.TEXT_CHARACTERS),
    ("/assistants/search", {"metadata": keys(1001)}, "metadata", 1001, limits.FILTER_KEYS),
]


@pytest.mark.server  # a large body is read by a process
async def test_too_much_is_refused_with_the_limit_and_the_number(api: ApiHarness) -> None:
    thread_id = await api.thread()
    for target, body, field, number, limit in TOO_MANY:
        method, path = target.split() if " " in target else ("POST", target)
        status, answer = await api.ask(method, path.format(thread=thread_id), body)
        detail = answer["detail"]
        assert (status, str(number) in detail, f"at most {limit} are allowed" in detail) == (422, True, True), detail
        assert detail.startswith(field), detail
        assert len(detail) < 500


@pytest.mark.contract(164)
async def test_a_webhook_to_this_machine_is_refused_unless_the_application_allows_it(api: ApiHarness) -> None:
    """tests/contract/test_webhooks.py has those of an application that does."""
    thread_id = await api.thread()
    for path in ("/runs", f"/threads/{thread_id}/runs", "/runs/wait", f"/threads/{thread_id}/runs/stream"):
        status, answer = await api.ask("POST", path, run(webhook="http://127.0.0.1:9/hook"))
        assert (status, answer["detail"]) == (422, "Webhook host blocked: loopback IP range")
    status, answer = await api.ask("POST", "/runs/batch", [run(), run(webhook="/hook")])
    assert status == 422 and answer["detail"].startswith("[1] Loopback webhooks")
    await api.call("POST", "/runs", run(webhook=None))


@pytest.mark.parametrize(
    "ttl", [0, -1, "60", True, {"ttl": 60, "strategy": "shrink"}, {"strategy": "delete"}, {"ttl": 1e12}, [60]], ids=str
)
async def test_a_time_to_live_is_a_number_of_minutes(api: ApiHarness, ttl: Any) -> None:
    for method, path in (("POST", "/threads"), ("PATCH", f"/threads/{await api.thread()}")):
        status, answer = await api.ask(method, path, {"ttl": ttl})
        assert status == 422 and answer["detail"].startswith("ttl:"), answer
        assert (await api.ask(method, path, {"ttl": None}))[0] == 200


# --- other parts than the body


async def test_a_compressed_body_is_refused_unread(api: ApiHarness) -> None:
    for encoding, data in (
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"{}")),
        ("deflate", b"{}"),
        ("br", b"{}"),
        ("zstd", b"{}"),
        ("x, y", b"{}"),
    ):
        async with api.client.post("/threads", data=data, headers={"Content-Encoding": encoding}) as answer:
            assert (answer.status, "compressed" in (await answer.json())["detail"]) == (415, True), encoding
    async with api.client.post("/threads", data=b"{}", headers={"Content-Encoding": "identity"}) as answer:
        assert answer.status == 200


async def test_text_that_is_not_utf_8_becomes_text_that_can_be_stored(api: ApiHarness) -> None:
    """Of every part of a request: aiohttp gives undecodable bytes of headers as lone surrogates."""
    thread_id = await api.thread()
    body = orjson.dumps(run())
    answer = await raw(api, f"POST /threads/{thread_id}/runs".encode(), b"X-Request-Id: a\xff\xfe\xc3\xa9\r\n", body)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "X-Request-Id: a\ufffd\ufffdé\r\n".encode() in answer
    [created] = await api.call("GET", f"/threads/{thread_id}/runs")
    assert created["kwargs"]["config"]["configurable"]["langgraph_request_id"] == "a\ufffd\ufffdé"
    path = f"/threads/{thread_id}"
    for target, headers, status in (
        (f"GET {path}/state/%ff%fe", b"", 200),
        (f"GET {path}/state/%ED%A0%80", b"", 200),
        (f"GET {path}/history?before=%ff%00", b"", 200),
        (f"GET {path}/runs?status=%ff", b"", 200),
        (f"GET {path}/runs/{created['run_id']}/stream?stream_mode=%ff", b"", 422),
        ("GET /assistants/%ff/graph", b"", 422),
        ("GET /assistants/noop/subgraphs/%00%ff", b"", 200),
        ("GET /ok", b"Origin: \xff\r\n", 200),
        (f"PATCH {path}", b"Prefer: \xff\r\n", 200),
        (f"GET {path}/runs/{created['run_id']}/join?cancel_on_disconnect=%ff", b"Last-Event-ID: \xff\r\n", 422),
    ):
        answer = await raw(api, target.encode(), headers, b"{}" if target.startswith("PATCH") else b"")
        assert answer.startswith(b"HTTP/1.1 %d " % status), (target, answer)


async def raw(api: ApiHarness, target: bytes, headers: bytes, body: bytes) -> bytes:
    """The answer to a request whose bytes no client library would send."""
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    try:
        writer.write(
            target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers
            + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )  # fmt: skip
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def test_the_text_of_requests_comes_through_one_gate() -> None:
    """Whoever reads a path, a query or a header otherwise gets text that may not be encodable."""
    # the gate; headers that are compared or given back, never stored; what the application's own `authenticate` gets;
    # keys that have to be ASCII
    around = {"requests.py", "cors.py", "gate.py", "authentication.py", "door.py"}
    direct = re.compile(r"request\.(headers|query|match_info)\b(?!\.route|\.http_exception)")
    allowed = re.compile(r'"\w+" in request\.(query|match_info)')
    for path in API.rglob("*.py"):
        if path.name not in around:
            for line in path.read_text().splitlines():
                assert not direct.search(allowed.sub("", line)), (path.name, line)


async def test_nul_is_replaced_wherever_it_is_and_only_there(api: ApiHarness) -> None:
    text = '{"metadata": {"a\\u0000": "\\u0000\\u0000 \\\\u0000 \\\\\\u0000 \\\\\\\\u0000"}}'
    async with api.client.post("/threads", data=text) as answer:
        made = await answer.json()
    assert made["metadata"] == {"a\ufffd": "\ufffd\ufffd \\u0000 \\\ufffd \\\\u0000"}
    assert await api.call("GET", f"/threads/{made['thread_id']}") == made


@pytest.mark.parametrize("digits", [19, 4500])
async def test_numbers_of_many_digits_are_refused(api: ApiHarness, digits: int) -> None:
    number = "9" * digits
    thread_id = await api.thread()
    assert (await api.ask("POST", "/threads/search", {"extract": {"a": f"values.x[{number}]"}}))[0] == 422
    created = await api.run(thread_id, stream_resumable=True)
    await api.report(thread_id, created["run_id"], "success")
    path = f"/threads/{thread_id}/runs/{created['run_id']}/stream"
    async with api.client.get(path, headers={"Last-Event-ID": f"{number}-1"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"")  # not an id: as if it had none
    assert (await api.ask("GET", f"/threads/{thread_id}/runs?limit={number}"))[0] in (400, 422)
    assert (await api.ask("GET", f"/assistants/noop/graph?xray={number}"))[0] in (200, 422)


async def test_a_refusal_does_not_repeat_all_that_was_sent(api: ApiHarness) -> None:
    long = "x" * 3000
    for path in (
        f"/assistants/noop/graph?xray={long}",
        f"/threads/{uuid4()}/runs?limit={long}",
        f"/ok?check_db={long}",
    ):
        status, answer = await api.ask("GET", path + long)
        assert status in (400, 422) and len(answer["detail"]) < 400


SOME_THREAD = "2f1f0b5e-9d8e-4f43-8a3a-3f4c5d6e7f80"  # names of tests are the same in every worker of pytest-xdist


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/threads/search", "POST"),
        ("/threads/prune", "POST"),
        ("/runs/batch", "POST"),
        ("/runs/cancel", "POST"),
        (f"/threads/{SOME_THREAD}/state", "GET,HEAD,PATCH,POST"),
        (f"/threads/{SOME_THREAD}/state/checkpoint", "POST"),
        (f"/threads/{SOME_THREAD}/runs", "GET,HEAD,POST"),
        ("/ok", "GET,HEAD"),
    ],
)
async def test_allow_names_the_methods_of_this_path_alone(api: ApiHarness, path: str, allow: str) -> None:
    async with api.client.put(yarl.URL(path, encoded=True)) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allow)
