"""A graph that shows a component."""

from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.ui import AnyUIMessage, push_ui_message, ui_message_reducer


class State(MessagesState):
    ui: Annotated[list[AnyUIMessage], ui_message_reducer]


def forecast(state: State) -> dict[str, Any]:
    message = AIMessage("The weather:", id=f"weather-{len(state['messages'])}")
    push_ui_message("forecast", {"city": state["messages"][-1].text, "degrees": -3}, message=message)
    return {"messages": [message]}


builder = StateGraph(State)
builder.add_node("forecast", forecast)
builder.add_edge(START, "forecast")
weather = builder.compile()
