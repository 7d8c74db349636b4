"""A plain function as a graph: what it is given, what becomes of its text, other items and result, and which are."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ValidationError

from threadlog.engine.agents import stream_text
from threadlog.engine.agents.function import AgentError, as_graph

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def graph_of(function: Any) -> Pregel:
    graph = as_graph(function, "it")
    assert graph is not None
    graph.checkpointer = InMemorySaver()
    return graph


async def streamed(graph: Pregel, input: Any, thread: str = "t") -> dict[str, list[Any]]:
    """What a run streams, by mode; of messages their chunks, as (id, text)."""
    config = {"configurable": {"thread_id": thread}}
    seen: dict[str, list[Any]] = {"messages": [], "custom": [], "values": []}
    async for mode, part in graph.astream(input, config, stream_mode=list(seen)):
        seen[mode].append((part[0].id, part[0].content) if mode == "messages" else part)
    return seen


async def test_a_generators_text_is_one_message_in_chunks_and_what_else_it_yields_is_custom() -> None:
    async def agent(messages):
        yield "one "
        yield {"step": 1}
        yield ""
        yield "two"

    seen = await streamed(graph_of(agent), HELLO)
    [final] = [message for message in seen["values"][-1]["messages"] if message.type == "ai"]
    assert final.content == "one two"
    assert seen["messages"] == [(final.id, "one "), (final.id, "two")]
    assert seen["custom"] == [{"step": 1}]


async def test_a_chat_agent_is_given_the_whole_conversation_as_plain_dictionaries() -> None:
    given = []

    async def agent(messages):
        given.append(messages)
        return f"answer {len(messages)}"

    graph = graph_of(agent)
    await streamed(graph, HELLO)
    await streamed(graph, {"messages": "again"})
    assert given[1] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "answer 1"},
        {"role": "user", "content": "again"},
    ]


async def test_a_block_that_openai_has_no_form_for_stays_as_it_is() -> None:
    given = []

    async def agent(messages):
        given.extend(messages)

    note = {"type": "text-plain", "base64": "aGk=", "mime_type": "text/plain"}
    video = {"type": "video", "url": "https://example.com/v.mp4"}
    picture = {"type": "image", "url": "https://example.com/p.png"}
    said = [{"type": "text", "text": "look"}, note, video, {"no": "type"}, picture]
    await streamed(
        graph_of(agent), {"messages": [{"role": "user", "content": said}, {"role": "user", "content": "hello"}]}
    )
    image = {"type": "image_url", "image_url": {"url": "https://example.com/p.png"}}
    assert given == [{"role": "user", "content": [*said[:4], image]}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("returned", "added"),
    [
        (None, []),
        ("text", ["text"]),
        ({"role": "assistant", "content": "one"}, ["one"]),
        ([{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}], ["one", "two"]),
        ({"messages": [{"role": "assistant", "content": "one"}]}, ["one"]),
    ],
)
async def test_a_chat_agents_result_is_added_to_the_conversation(returned: Any, added: list[str]) -> None:
    async def agent(messages):
        return returned

    seen = await streamed(graph_of(agent), HELLO)
    assert [message.content for message in seen["values"][-1]["messages"]] == ["hello", *added]


async def test_a_result_that_is_no_message_is_the_runs_error() -> None:
    async def agent(messages):
        return 7

    with pytest.raises(TypeError, match="returned a int: return text, a message or a list of messages"):
        await streamed(graph_of(agent), HELLO)


async def test_what_final_saves_is_the_next_runs_previous_in_both_forms() -> None:
    async def chat(messages, *, previous=None):
        yield entrypoint.final(value=f"run {previous or 1}", save=(previous or 1) + 1)

    async def other(input, *, previous=None):
        return entrypoint.final(value=[input, previous], save=(previous or 1) + 1)

    graph = graph_of(chat)
    results = [await streamed(graph, HELLO) for _ in range(2)]
    assert [result["values"][-1]["messages"][-1].content for result in results] == ["run 1", "run 2"]
    graph = graph_of(other)
    assert [(await streamed(graph, "x"))["values"][-1] for _ in range(2)] == [["x", None], ["x", 2]]


async def test_an_agent_of_any_input_returns_its_output_and_a_generator_its_text() -> None:
    async def function(input: dict) -> dict:
        return {"got": input}

    async def generator(input: str):
        for word in input.split():
            yield word

    assert (await streamed(graph_of(function), {"a": 1}))["values"] == [{"got": {"a": 1}}]
    seen = await streamed(graph_of(generator), "x y")
    assert seen["values"] == ["xy"]
    assert [text for _, text in seen["messages"]] == ["x", "y"]
    assert graph_of(generator).get_input_jsonschema()["type"] == "string"
    assert graph_of(function).get_output_jsonschema()["type"] == "object"


async def test_a_tasks_text_is_streamed_once_and_belongs_to_the_message_of_the_turn() -> None:
    calls = []

    @task
    async def think() -> str:
        calls.append(1)
        return await stream_text(["thinking ", "hard "])

    async def agent(messages):
        text = await think()
        answer = interrupt("go on?")
        return text + await stream_text([answer])

    graph = graph_of(agent)
    before = await streamed(graph, HELLO)
    after = await streamed(graph, Command(resume="done"))
    final = after["values"][-1]["messages"][-1]
    assert final.content == "thinking hard done"
    assert before["messages"] == [(final.id, "thinking "), (final.id, "hard ")]
    assert after["messages"] == [(final.id, "done")]
    assert calls == [1]


async def test_the_generator_is_closed_when_the_run_ends_early() -> None:
    closed = []

    async def agent(messages):
        try:
            yield "text"
            interrupt("?")
        finally:
            closed.append(True)

    await streamed(graph_of(agent), HELLO)
    assert closed == [True]


def logged(function: Any) -> Any:
    """A decorator as they are written: its own function is not async."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Clerk:
    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, messages):
        yield f"{self.name} "
        yield "called"

    async def answer(self, messages):
        return f"{self.name} asked"


async def greeting(name, messages):
    return f"{name} greeted"


@logged
async def decorated(messages):
    return "decorated"


@logged
@logged
async def decorated_generator(messages):
    yield "decorated "
    yield "twice"


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        (functools.partial(greeting, "Ann"), "Ann greeted"),
        (Clerk("Ann"), "Ann called"),
        (Clerk("Ann").answer, "Ann asked"),
        (logged(Clerk("Ann").answer), "Ann asked"),
        (decorated, "decorated"),
        (decorated_generator, "decorated twice"),
    ],
    ids=["partial", "object", "method", "decorated method", "decorated function", "decorated generator"],
)
async def test_whatever_calls_an_async_function_is_an_agent(agent: Any, says: str) -> None:
    seen = await streamed(graph_of(agent), HELLO)
    assert seen["values"][-1]["messages"][-1].content == says


class Order(BaseModel):
    number: int
    note: str = "none"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Preferences(BaseModel):
    language: str = "English"


async def test_an_input_with_a_type_is_made_one() -> None:
    async def order(input: Order) -> str:
        return f"{input.number} {input.note}"

    async def point(input: Point):
        yield f"{input.x} {input.y}"

    async def orders(input: list[Order] | None) -> int:
        return sum(order.number for order in input or [])

    assert (await streamed(graph_of(orders), [{"number": 7}, {"number": 8}]))["values"] == [15]
    assert (await streamed(graph_of(order), {"number": 7}))["values"] == ["7 none"]
    assert (await streamed(graph_of(point), {"x": 1}))["values"] == ["1 0"]
    assert graph_of(order).get_input_jsonschema()["properties"].keys() == {"number", "note"}
    with pytest.raises(ValidationError, match="number"):
        await streamed(graph_of(order), {"number": "seven"})


async def test_an_agent_is_given_what_it_asks_for_whatever_type_it_says() -> None:
    async def chat(messages, config: dict, store: object, writer: Any, runtime: Runtime[Preferences]):
        writer({"thread": config["configurable"]["thread_id"]})
        return f"{runtime.context.language} {store is runtime.store}"

    async def other(input, runtime: Runtime[Preferences]):
        return runtime.context.language

    for function, output in ((chat, "English True"), (other, "English")):
        graph = graph_of(function)
        assert graph.get_context_jsonschema()["properties"]["language"]["default"] == "English"
        config, context = {"configurable": {"thread_id": "t"}}, Preferences()
        result = await graph.ainvoke(HELLO, config, context=context)
        assert (result["messages"][-1].content if function is chat else result) == output


def test_what_an_agent_is_not_given_it_can_not_ask_for() -> None:
    async def agent(messages, model): ...
    async def with_default(messages, model="small", *rest, **more): ...

    with pytest.raises(AgentError, match='asks for "model": beside "messages" agents are given config, previous, '):
        as_graph(agent, "it")
    assert as_graph(with_default, "it") is not None


def test_functions_that_are_no_agents_are_left_alone() -> None:
    def factory(): ...
    async def other_factory(config): ...

    assert (
        as_graph(factory, "it") is as_graph(other_factory, "it") is as_graph(print, "it") is as_graph(3, "it") is None
    )


def test_an_agent_that_is_not_async_is_refused_with_the_reason() -> None:
    def agent(messages): ...
    def generator(input):
        yield "x"

    with pytest.raises(AgentError, match="it is a function that is not async: write `async def`"):
        as_graph(agent, "it")
    with pytest.raises(AgentError, match="it is a generator that is not async"):
        as_graph(generator, "it")


async def test_the_pages_example_works() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    graph = graph_of(names["agent"])
    asked = await streamed(graph, {"messages": "Delete my account"})
    assert asked["values"][-1]["__interrupt__"][0].value == {"question": "Delete my account?"}
    answered = await streamed(graph, Command(resume="yes"))
    assert answered["values"][-1]["messages"][-1].content == "Done. Good bye."
    assert answered["custom"] == [{"deleted": True}]
