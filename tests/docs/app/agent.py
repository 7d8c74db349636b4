"""The application of a reader whose page shows none of its own: it replies, and asks before it refunds."""

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


async def reply(state: MessagesState) -> dict:
    asked = state["messages"][-1].text
    if asked == "fail":
        raise ValueError("asked to fail")
    if "refund" in asked.lower():
        text = "Refunded." if interrupt({"question": "Refund the order?"}) == "yes" else "A colleague said no."
    else:
        text = f"You said: {asked}"
    usage = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    model = GenericFakeChatModel(
        messages=iter([AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "gpt-5"})])
    )
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("reply", reply).add_edge(START, "reply").compile()
