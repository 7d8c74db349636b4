"""A client whose connection is cut loses nothing: it comes back by `Location` and `Last-Event-ID`."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.installed import event_client
from tests.waiting import eventually

from .gate import Gate
from .tcp_proxy import TcpProxy
from .waiting import ended


async def test_the_client_resumes_a_stream_that_was_cut(
    client: LangGraphClient, url: str, thread_id: str, gate: Gate
) -> None:
    numbers = []
    async with TcpProxy(url) as proxy, get_client(url=proxy.url, api_key=None) as far:
        async for part in far.runs.stream(
            thread_id, "custom", input={**gate.input, "n": 30}, stream_mode="custom", stream_resumable=True
        ):
            if part.event != "custom":
                continue
            numbers.append(part.data["number"])
            if numbers[-1] == 14:
                proxy.cut()
                gate.open()
        assert proxy.connections >= 2
    assert numbers == list(range(30))


async def test_a_run_that_ended_while_the_client_was_away_is_still_told(
    client: LangGraphClient, url: str, thread_id: str, gate: Gate
) -> None:
    numbers = []
    run_id = None
    async with TcpProxy(url) as proxy, get_client(url=proxy.url, api_key=None) as far:
        async for part in far.runs.stream(
            thread_id, "custom", input={**gate.input, "n": 30}, stream_mode="custom", stream_resumable=True
        ):
            if part.event == "metadata":
                run_id = part.data["run_id"]
            else:
                numbers.append(part.data["number"])
            if numbers and numbers[-1] == 14 and not gate.is_open:
                proxy.down = True
                proxy.cut()
                gate.open()
                await ended(client, thread_id, run_id)
                proxy.down = False
    assert numbers == list(range(30))


@pytest.mark.star
@pytest.mark.parametrize("cut_at", [0, 5, 20])
async def test_a_stream_cut_again_and_again_repeats_and_skips_nothing(
    client: LangGraphClient, url: str, thread_id: str, cut_at: int
) -> None:
    seen = []
    async with TcpProxy(url) as proxy, get_client(url=proxy.url, api_key=None) as far:
        async for part in far.runs.stream(
            thread_id,
            "custom",
            input={"items": [], "n": 40},
            stream_mode=["custom", "values"],
            stream_resumable=True,
        ):
            seen.append((part.event, part.data))
            if len(seen) % 21 == cut_at:
                proxy.cut()
    assert [event for event, _ in seen] == ["metadata", "values", *["custom"] * 40, "values"]
    assert [data["number"] for event, data in seen if event == "custom"] == list(range(40))


@event_client
async def test_waiting_goes_on_after_a_cut(client: LangGraphClient, url: str, thread_id: str, gate: Gate) -> None:
    runs = []
    async with TcpProxy(url) as proxy, get_client(url=proxy.url, api_key=None) as far:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            waiting = asyncio.create_task(
                far.runs.wait(thread_id, "gated", input=gate.input, on_run_created=runs.append)
            )

            async def cut_and_open() -> None:
                listed = await eventually(lambda: client.runs.list(thread_id))
                await gate.entered(listed[0]["run_id"])
                await eventually(lambda: runs)
                proxy.cut()
                gate.open()

            await cut_and_open()
            assert (await waiting)["items"] == ["first", "held", "last"]
    assert len(await client.runs.list(thread_id)) == 1
