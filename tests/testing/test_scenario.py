"""given/when/then of `threadlog.testing`, in this process; tests/testing/test_server.py has it through a server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

from threadlog.testing import Input, Resume, ScriptedChatModel, ScriptEnded, Unexpected, call, given


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Trip(MessagesState):
    booked: str


def trip_graph(model: ScriptedChatModel) -> StateGraph[Any]:
    """Talks, looks up the weather, and books when it was told to and somebody has agreed."""

    def talk(state: Trip) -> dict[str, Any]:
        return {"messages": [model.bind_tools([weather]).invoke(state["messages"])]}

    def book(state: Trip) -> dict[str, Any]:
        if not state["messages"][-1].text.startswith("Booking"):
            return {}
        answer = interrupt({"question": "book it?", "price": 89})
        if answer == "break":
            raise ValueError("the card was refused")
        return {"booked": answer}

    builder = StateGraph(Trip)
    builder.add_node("talk", talk)
    builder.add_node("tools", ToolNode([weather]))
    builder.add_node("book", book)
    builder.add_edge(START, "talk")
    builder.add_conditional_edges("talk", tools_condition, {"tools": "tools", "__end__": "book"})
    builder.add_edge("tools", "talk")
    return builder


def asks(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def test_messages_tool_calls_nodes_and_state_are_compared() -> None:
    model = ScriptedChatModel([call("weather", city="Porto"), "It is sunny in Porto."])
    given(trip_graph(model)).when(asks("Porto?")).then(
        messages=[call("weather", city="Porto"), "sunny in Porto", re.compile("^It is sunny")],
        tool_calls=[call("weather", city="Porto")],
        nodes=["talk", "tools", "talk", "book"],
        next=[],
        interrupts=[],
        state={"messages": ["Porto?", ..., ..., lambda message: isinstance(message, AIMessage)]},
    )
    assert model.tools == ["weather"] and model.remaining == 0
    assert [message.text for message in model.calls[0]] == ["Porto?"]


def test_a_scenario_goes_on_after_an_interrupt() -> None:
    asked = given(trip_graph(ScriptedChatModel(["Booking."]))).when(asks("book Porto"))
    asked.then(interrupts=[{"question": "book it?"}], next=["book"], messages=["Booking."])
    asked.when(Resume("by train")).then(state={"booked": "by train"}, messages=[], next=[], nodes=["book"])


def test_what_has_gone_before_is_a_state_or_runs_that_run() -> None:
    model = ScriptedChatModel(["Hello again."])
    given(trip_graph(model), {"messages": [HumanMessage("Hi"), AIMessage("Hello.")], "booked": "by bus"}).when(
        asks("Hi!")
    ).then(messages=["Hello again."], state={"booked": "by bus", "messages": ["Hi", "Hello.", "Hi!", "Hello again."]})
    assert [message.text for message in model.calls[0]] == ["Hi", "Hello.", "Hi!"]

    model = ScriptedChatModel(["Booking.", "And back?"])
    given(trip_graph(model), Input(asks("book Porto")), Resume("by train")).when(asks("thanks")).then(
        messages=["And back?"], state={"booked": "by train"}
    )


async def test_on_the_loop_of_the_test() -> None:
    outcome = await given(trip_graph(ScriptedChatModel(["Hello."]))).awhen(asks("Hi"))
    outcome.then(messages=["Hello."])
    assert outcome.tool_calls == []


def test_an_error_of_a_node_is_expected_or_fails_the_test_with_itself_as_the_cause() -> None:
    scenario = given(trip_graph(ScriptedChatModel(["Booking."])), Input(asks("book Porto")))
    failed = scenario.when(Resume("break"))
    failed.then(raises=ValueError, nodes=[])
    failed.then(raises="card was refused")
    with pytest.raises(Unexpected, match="raised: ValueError: the card was refused") as caught:
        failed.then(next=["book"])
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(Unexpected, match="KeyError"):
        failed.then(raises=KeyError)
    with pytest.raises(Unexpected, match="nothing was raised"):
        given(trip_graph(ScriptedChatModel(["Hello."]))).when(asks("Hi")).then(raises=ValueError)
    with pytest.raises(Unexpected, match="step 1 of the history failed: ScriptEnded"):
        given(trip_graph(ScriptedChatModel()), Input(asks("Hi"))).when(asks("Hi"))


def test_a_failure_tells_all_that_differs_and_what_happened() -> None:
    outcome = given(trip_graph(ScriptedChatModel([call("weather", city="Porto"), "Booking."]))).when(asks("Porto?"))
    with pytest.raises(Unexpected) as caught:
        outcome.then(
            tool_calls=[call("weather", city="Lyon")], state={"booked": "x", "messages": ["one"]}, interrupts=[],
            messages=["Booking."], nodes=["talk"], next=[],
        )  # fmt: skip
    text = str(caught.value)
    assert text.startswith("7 not as expected")
    assert "expected [call('weather', city='Lyon')]\n    but got  [call('weather', city='Porto')]" in text
    assert "state['booked']: expected 'x', but there is none" in text
    assert "tools → {'messages': [tool('sunny in Porto')]}" in text
    assert "interrupt: {'question': 'book it?', 'price': 89}" in text


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a graph, not function"):
        given(trip_graph)


# --- the scripted model -----------------------------------------------------------------------------------------------


def test_a_text_is_streamed_word_by_word_and_stays_what_it_was() -> None:
    text = "  Two words,\nand more. "
    chunks = list(ScriptedChatModel([text]).stream("Hi"))
    assert "".join(chunk.text for chunk in chunks) == text and len(chunks) > 4
    assert ScriptedChatModel([text]).invoke("Hi").text == text


async def test_tool_calls_are_the_same_streamed_and_whole() -> None:
    script = [[call("weather", city="Porto"), call("weather", city="Lyon")]]
    whole = await ScriptedChatModel(script).ainvoke("Hi")
    streamed: Any = None
    async for chunk in ScriptedChatModel(script).astream("Hi"):
        streamed = chunk if streamed is None else streamed + chunk
    calls = [("weather", {"city": "Porto"}), ("weather", {"city": "Lyon"})]
    assert [(one["name"], one["args"]) for one in whole.tool_calls] == calls
    assert [(one["name"], one["args"]) for one in streamed.tool_calls] == calls
    assert len({one["id"] for one in whole.tool_calls}) == 2


def test_a_reply_may_be_an_error_a_function_or_a_message() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    last = AIMessage("x", usage_metadata=usage)
    model = ScriptedChatModel([TimeoutError("slow"), ConnectionError, lambda messages: messages[-1].text.upper(), last])
    with pytest.raises(TimeoutError, match="slow"):
        model.invoke("a")
    with pytest.raises(ConnectionError):
        model.invoke("a")
    assert model.invoke("a").text == "A"
    assert model.remaining == 1
    whole: Any = None
    for chunk in model.stream("a"):
        whole = chunk if whole is None else whole + chunk
    assert whole.usage_metadata == usage
    with pytest.raises(ScriptEnded, match="the script has 4 replies, this is call 5, on human message 'b'"):
        model.invoke("b")


def test_a_function_is_a_script_without_an_end() -> None:
    def script(messages: list[BaseMessage]) -> AIMessage:
        return AIMessage("Let me look.", tool_calls=[call("weather", city=messages[-1].text)])

    model = ScriptedChatModel(script)
    for n in range(150):
        reply = model.invoke([HumanMessage("Porto")] * (n + 1))
    assert (reply.text, reply.tool_calls[0]["args"]) == ("Let me look.", {"city": "Porto"})
    assert reply.tool_calls[0]["id"] == "call_150_0", "each once in a conversation, also after a restart"
    assert [len(messages) for messages in model.calls] == list(range(51, 151)) and model.remaining == 0
    assert "".join(chunk.text for chunk in model.stream("Lyon")) == "Let me look."


def test_structured_output_is_a_call_of_its_schema() -> None:
    schema = {"title": "Answer", "description": "an answer", "type": "object", "properties": {"n": {"type": "integer"}}}
    model = ScriptedChatModel([call("Answer", n=7)])
    assert model.with_structured_output(schema).invoke("?") == {"n": 7}


def test_a_reply_that_can_not_be_one_is_refused() -> None:
    with pytest.raises(TypeError, match="a reply of a script may be"):
        ScriptedChatModel([7]).invoke("?")
