"""`threads.stream` of both public Python clients, over both transports: everything that it offers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from tests.installed import named_tool_calls, selecting_client
from tests.waiting import eventually

pytestmark = selecting_client  # the newest has all of them

ADD = {"messages": [{"role": "user", "content": "add 2 3", "id": "question"}]}
HELLO = {"messages": [{"role": "user", "content": "hello", "id": "question"}]}
OFFERED = {
    "agent", "close", "events", "extensions", "interleave_projections", "interrupted", "interrupts", "messages",
    "output", "run", "subagents", "subgraphs", "subscribe", "tool_calls", "values",
}  # fmt: skip


class EitherStream:
    """A stream of a thread, async or not, behind one way to use it."""

    def __init__(self, stream: Any, *, blocking: bool) -> None:
        self.stream, self._blocking = stream, blocking

    async def do(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The result of a method, or the value of what is waited for."""
        if self._blocking:
            return await asyncio.to_thread(method, *args, **options)
        result = method(*args, **options)
        return await result if inspect.isawaitable(result) else result

    async def start(self, input: Any, **options: Any) -> str:
        return str((await self.do(self.stream.run.start, input=input, **options))["run_id"])

    async def output(self) -> Any:
        return await self.do(lambda: self.stream.output)

    async def all(self, items: Any) -> list[Any]:
        if self._blocking:
            return await asyncio.to_thread(list, items)
        return [item async for item in items]

    async def first_event(self) -> Any:
        """Over a WebSocket, the asynchronous client's events include the response to its subscription."""
        events = self.stream.events
        if self._blocking:
            return await asyncio.to_thread(lambda: next(iter(events)))
        return await anext(event async for event in events if "method" in event)

    async def text_of(self, message: Any) -> str:
        return str(message.text) if self._blocking else str(await message.text)

    async def output_of(self, call: Any) -> Any:
        return await self.do(lambda: call.output)


class Streams:
    """Opens streams of one client over one transport."""

    def __init__(self, client: LangGraphClient | SyncLangGraphClient, transport: Any) -> None:
        self.client, self.transport = client, transport

    @asynccontextmanager
    async def __call__(self, graph: str, thread_id: str | None = None) -> AsyncIterator[EitherStream]:
        options: Any = {"assistant_id": graph, "transport": self.transport}
        async with asyncio.timeout(60):
            if isinstance(self.client, SyncLangGraphClient):
                stream: Any = self.client.threads.stream(thread_id, **options)
                await asyncio.to_thread(stream.__enter__)
                try:
                    yield EitherStream(stream, blocking=True)
                finally:
                    await asyncio.to_thread(stream.__exit__, None, None, None)
            else:
                async with self.client.threads.stream(thread_id, **options) as stream:
                    yield EitherStream(stream, blocking=False)


@pytest.fixture(params=["async-sse", "async-websocket", "sync-sse", "sync-websocket"])
async def streams(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Streams]:
    kind, _, transport = request.param.partition("-")
    if kind == "async":
        async with get_client(url=url, api_key=None) as client:
            yield Streams(client, transport)
    else:
        with get_sync_client(url=url, api_key=None) as blocking:
            yield Streams(blocking, transport)


async def test_nothing_is_offered_that_no_test_uses(streams: Streams) -> None:
    async with streams("noop") as session:
        offered = {name for name in dir(session.stream) if not name.startswith("_")}
    assert offered - {"thread_id", "assistant_id", "observe_applied_through_seq"} == OFFERED


async def test_values_output_and_events(streams: Streams, client: LangGraphClient) -> None:
    async with streams("noop") as session:
        run_id = await session.start({"items": ["in"]}, config={"tags": ["t"]}, metadata={"m": 1})
        values = await session.all(session.stream.values)
        assert values[-3:] == [{"items": ["in"]}, {"items": ["in", "a"]}, {"items": ["in", "a", "b"]}]
        assert await session.output() == {"items": ["in", "a", "b"]}
        run = await client.runs.get(session.stream.thread_id, run_id)
        assert (run["metadata"]["m"], run["kwargs"]["config"]["tags"]) == (1, ["t"])
    async with streams("noop") as session:
        await session.start({"items": ["in"]})
        first = await session.first_event()
        assert first["params"]["data"] == {"event": "running", "graph_name": "noop"}
        await session.do(session.stream.close)


@named_tool_calls
async def test_messages_and_tool_calls(streams: Streams) -> None:
    """One at a time: what a client asks for after a run has ended, the client itself does not ask the server for."""
    async with streams("agent") as session:
        await session.start(ADD)
        messages = await session.all(session.stream.messages)
        assert [await session.text_of(message) for message in messages] == ["Let me see", "The sum is 5"]
    async with streams("agent") as session:
        await session.start(ADD)
        [call] = await session.all(session.stream.tool_calls)
        assert (call.name, call.input, call.tool_call_id) == ("add", {"left": 2, "right": 3}, "call-1")
        assert (await session.output_of(call))["content"] == "5"


async def test_subgraphs_of_subgraphs_and_their_messages(streams: Streams) -> None:
    async with streams("grandparent") as session:
        assert session.stream.subagents is session.stream.subgraphs
        await session.start(HELLO)
        [parent] = await session.all(session.stream.subgraphs)
        assert (parent.graph_name, parent.status, len(parent.path)) == ("parent", "completed", 1)
        tree = await session.do(session.stream.agent.get_tree, xray=True)
        assert "parent:child:model" in {node["id"] for node in tree["nodes"]}


async def test_extensions_are_named_custom_events(streams: Streams) -> None:
    async with streams("named") as session:
        await session.start({"items": []})
        assert await session.all(session.stream.extensions["progress"]) == [
            {"name": "progress", "payload": {"done": 1}}
        ]


async def test_projections_are_interleaved_and_channels_subscribed(streams: Streams) -> None:
    channels = ["values", "messages", "updates", "tasks", "checkpoints", "tool_calls"]
    async with streams("agent") as session:
        await session.start(ADD)
        seen = [name for name, _ in await session.all(session.stream.interleave_projections(channels))]
        assert set(seen) == set(channels)
        assert seen.index("messages") < seen.index("tool_calls")
    async with streams("grandparent") as session:
        await session.start(HELLO)
        below = session.stream.subscribe(["values", "lifecycle"], namespaces=[["parent", "child"]], depth=0)
        events = await session.all(below)
        assert [event["method"] for event in events].count("lifecycle") == 2
        assert {len(event["params"]["namespace"]) for event in events} == {2}


@pytest.mark.contract(140, 182)
@pytest.mark.parametrize("graph", ["ask", "family", "ask_two"])
async def test_questions_are_answered_as_soon_as_they_are_asked(streams: Streams, graph: str) -> None:
    async with streams(graph) as session:
        await session.start({"items": []})
        sides = 2 if graph == "ask_two" else 1

        async def asked() -> list[Any]:
            # The client lists a question again when a stream of it has begun anew.
            return list({asked["interrupt_id"]: asked for asked in session.stream.interrupts}.values())

        questions = await eventually(asked, lambda found: len(found) == sides)
        assert session.stream.interrupted
        for question in questions:
            assert question["value"] in ({"question": "ok?"}, {"side": "left"}, {"side": "right"})
            respond = session.stream.run.respond
            assert await session.do(respond, "yes", interrupt_id=question["interrupt_id"]) == {}
        assert "".join(map(str, (await session.output())["items"])).count("yes") == sides
        with pytest.raises(RuntimeError, match="no outstanding interrupt"):
            await session.do(session.stream.run.respond, "late")


async def test_a_failed_run_and_an_unknown_graph_are_errors(streams: Streams) -> None:
    async with streams("flaky") as session:
        await session.start({"n": 0})
        with pytest.raises(RuntimeError, match="kaboom"):
            await session.output()
    async with streams("nothing") as session:
        with pytest.raises(RuntimeError, match="Invalid assistant"):
            await session.start({})


async def test_a_thread_is_gone_on_with_by_another_stream(streams: Streams) -> None:
    async with streams("noop") as session:
        await session.start({"items": ["one"]})
        await session.output()
        thread_id = session.stream.thread_id
    async with streams("noop", thread_id) as session:
        assert await session.output() == {"items": ["one", "a", "b"]}
        await session.start({"items": ["two"]})
        values = await session.all(session.stream.values)
        assert values[-1] == {"items": ["one", "a", "b", "two", "a", "b"]}
