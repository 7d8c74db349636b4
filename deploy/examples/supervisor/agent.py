"""A supervisor and two specialists, each a graph of its own with tools. The model is scripted: put yours in `model`."""

import re
from typing import Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command

from threadlog.testing import ScriptedChatModel, call


@tool
def look_up_invoice(order: str) -> str:
    """Return the invoice of an order."""
    return f"Invoice of {order}: 89.00 EUR, paid by card."


@tool
def track_parcel(order: str) -> str:
    """Return where the parcel of an order is."""
    return f"The parcel of {order} left Lyon this morning and is due on Friday."


SPECIALISTS = {"billing": look_up_invoice, "shipping": track_parcel}
TOPICS = {"billing": r"invoice|paid|pay|cost|bill", "shipping": r"parcel|arriv|ship|deliver|where"}


def model(reply) -> ScriptedChatModel:
    """A chat model whose next reply is `reply`, streamed word by word."""
    return ScriptedChatModel([reply], seconds_per_token=0.03)


def asked(messages: list[AnyMessage]) -> str:
    return next(message.text for message in reversed(messages) if isinstance(message, HumanMessage))


def specialist(name: str):
    """A graph: the model asks its tool, and says what came of it."""

    async def talk(state: MessagesState):
        last = state["messages"][-1]
        if isinstance(last, ToolMessage):
            reply = f"{name.capitalize()} says: {last.text}"
        else:
            order = re.search(r"[A-Z]-\d+", asked(state["messages"]))
            reply = call(SPECIALISTS[name].name, order=order[0] if order else "your last order")
        return {"messages": [await model(reply).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("talk", talk)
    graph.add_node("tools", ToolNode([SPECIALISTS[name]]))
    graph.add_edge(START, "talk")
    graph.add_conditional_edges("talk", tools_condition)
    graph.add_edge("tools", "talk")
    return graph.compile(name=name)


async def supervisor(state: MessagesState) -> Command[Literal["billing", "shipping", "sum_up"]]:
    """Sends the request to each specialist it concerns, one after the other."""
    said = {message.text.split(" says")[0].lower() for message in since_the_question(state["messages"])}
    wanted = [name for name, topic in TOPICS.items() if re.search(topic, asked(state["messages"]).lower())]
    return Command(goto=next((name for name in wanted if name not in said), "sum_up"))


def since_the_question(messages: list[AnyMessage]) -> list[AnyMessage]:
    last = max(number for number, message in enumerate(messages) if isinstance(message, HumanMessage))
    return [message for message in messages[last + 1 :] if isinstance(message, AIMessage) and message.text]


async def sum_up(state: MessagesState):
    found = since_the_question(state["messages"])
    reply = "That is all we know." if found else "Tell me what it is about: an invoice, or a parcel?"
    return {"messages": [await model(reply).ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("supervisor", supervisor)
for specialist_name in SPECIALISTS:
    builder.add_node(specialist_name, specialist(specialist_name))
    builder.add_edge(specialist_name, "supervisor")
builder.add_node("sum_up", sum_up)
builder.add_edge(START, "supervisor")
builder.add_edge("sum_up", END)
office = builder.compile()
