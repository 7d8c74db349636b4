"""Plain values that JSON or LangGraph's serializer do not know: kept and shown exactly, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

pytestmark = pytest.mark.star  # the reference server fails such runs, and reads of their states


@pytest.mark.parametrize(
    ("kind", "shown", "text"),
    [
        ("large", 2**70, f"int {2**70}"),
        ("larger", str(10**400), f"int {10**400}"),  # orjson, and so the SDK, would not read the number
        ("inside", {"a": [1, -(2**64)]}, f"dict {{'a': [1, -{2**64}]}}"),
        ("fraction", "1/3", "Fraction 1/3"),
        ("complex", "(1-2j)", "complex (1-2j)"),
        ("range", "range(0, 3)", "range range(0, 3)"),
        ("path", "a/b", "PurePosixPath a/b"),
    ],
)
async def test_what_a_node_returns_is_kept_and_shown_exactly(
    http: httpx.AsyncClient, thread_id: str, kind: str, shown: Any, text: str
) -> None:
    run = {"assistant_id": "numbers", "input": {"kind": kind}}
    waited = json.loads((await http.post(f"/threads/{thread_id}/runs/wait", json=run)).text)
    assert (waited["value"], waited["text"]) == (shown, text)
    for path in ("", "/state", "/history"):
        read = json.loads((await http.get(f"/threads/{thread_id}{path}")).text)
        values = read[0]["values"] if path == "/history" else read["values"]
        assert (values["value"], values["text"]) == (shown, text), path
    # the next run reads it back
    again = {"assistant_id": "numbers", "input": {"kind": "as it was"}}
    waited = json.loads((await http.post(f"/threads/{thread_id}/runs/wait", json=again)).text)
    assert (waited["value"], waited["text"]) == (shown, text)


async def test_what_cannot_be_kept_fails_the_run_with_the_name_of_its_key(
    client: LangGraphClient, thread_id: str
) -> None:
    with pytest.raises(Exception, match=r"UnserializableState.*state key 'value'"):
        await client.runs.wait(thread_id, "numbers", input={"kind": "too large"})
    state = await client.threads.get_state(thread_id)
    assert state["values"] == {"kind": "too large"}


async def test_a_question_with_a_large_integer_is_asked_and_answered(http: httpx.AsyncClient, thread_id: str) -> None:
    run = {"assistant_id": "numbers", "input": {"kind": "ask"}}
    waited = json.loads((await http.post(f"/threads/{thread_id}/runs/wait", json=run)).text)
    [asked] = waited["__interrupt__"]
    assert int(asked["value"]["large"]) == 2**70
    state = json.loads((await http.get(f"/threads/{thread_id}/state")).text)
    assert state["interrupts"][0]["value"] == {"large": 2**70}
    [[interrupt]] = (await http.get(f"/threads/{thread_id}")).json()["interrupts"].values()
    assert int(interrupt["value"]["large"]) == 2**70
    run = {"assistant_id": "numbers", "command": {"resume": "yes"}}
    assert (await http.post(f"/threads/{thread_id}/runs/wait", json=run)).json()["text"] == "NoneType None"


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/threads/{thread}/runs", '{"assistant_id": "numbers", "input": {"a": [1, {"b": %s}]}}', "input.a[1].b"),
        ("/threads/{thread}/state", '{"values": {"value": %s}}', "values.value"),
        ("/threads", '{"metadata": {"id": %s}}', "metadata.id"),
        ("/threads/search", '{"values": {"id": %s}}', "values.id"),
    ],
)
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, 10**400, 10**5000], ids=lambda n: str(len(hex(n))))
async def test_what_a_client_sends_is_refused_where_digits_would_be_lost(
    http: httpx.AsyncClient, thread_id: str, path: str, body: str, place: str, number: int
) -> None:
    digits = str(number) if number != 10**5000 else "1" + "0" * 5000
    answer = await http.post(path.format(thread=thread_id), content=body % digits)
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"{place}: an integer beyond 64 bits can't be kept exactly: send it as a string"


async def test_numbers_in_reach_and_digits_in_texts_pass(http: httpx.AsyncClient, thread_id: str) -> None:
    sent = {
        "id": 2**64 - 1,
        "low": -(2**63),
        "text": f'"{10**30}, {2**70}]',
        "float": 1e300,
        "pi": 3.14159265358979323846,
    }
    run = {"assistant_id": "numbers", "input": {"kind": "as it was", "value": sent}}
    waited = (await http.post(f"/threads/{thread_id}/runs/wait", json=run)).json()
    assert waited["value"] == sent


async def test_streams_have_all_digits_too(http: httpx.AsyncClient) -> None:
    run = {"assistant_id": "numbers", "input": {"kind": "large"}, "stream_mode": ["updates", "values", "tasks"]}
    text = (await http.post("/runs/stream", json=run)).text
    assert text.count(f'"value":{2**70}') >= 4 and "e+" not in text
