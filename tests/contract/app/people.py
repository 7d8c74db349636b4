"""Graphs that ask people and show them something: forms, reviews of tool calls, pictures and files."""

import inspect
import json
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from plain import Items
from typing_extensions import TypedDict

OPTIONS = ("accept", "edit", "respond", "ignore")


def propose(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("I would send this e-mail", id=f"proposal-{len(state['messages'])}")]}


def ask_inbox(state: MessagesState) -> dict[str, Any]:
    """The question of an Agent Inbox; the last human message says what is allowed (`accept edit`, or nothing)."""
    words = next(m for m in reversed(state["messages"]) if m.type == "human").text.split()
    allowed = [word for word in words if word in OPTIONS] or OPTIONS
    request = {
        "action_request": {"action": "send_email", "args": {"to": "ann@example.com", "subject": "Hello", "copies": 2}},
        "config": {f"allow_{option}": option in allowed for option in OPTIONS},
        "description": "Please **review** the e-mail <img src=x onerror='window.hacked=1'>",
    }
    answer = interrupt(request if "single" in words else [request])
    return {"messages": [AIMessage(f"The answer: {json.dumps(answer, sort_keys=True)}")]}


builder = StateGraph(MessagesState)
builder.add_sequence([("propose", propose), ("ask", ask_inbox)])
builder.add_edge(START, "propose")
inbox = builder.compile()


# --- answers with a schema --------------------------------------------------------------------------------------------

ORDER = {
    "title": "Order",
    "type": "object",
    "required": ["name", "amount", "size", "address"],
    "properties": {
        "name": {"type": "string", "title": "Name", "minLength": 2},
        "amount": {"type": "integer", "title": "Amount", "minimum": 1, "maximum": 9},
        "size": {"type": "string", "enum": ["small", "large"], "title": "Size"},
        "gift": {"type": "boolean", "title": "Gift"},
        "address": {
            "type": "object",
            "title": "Address",
            "required": ["city"],
            "properties": {"city": {"type": "string", "title": "City"}},
        },
        "tags": {"type": "array", "title": "Tags", "items": {"type": "string"}},
    },
}
COLOUR = {"title": "Colour", "type": "string", "enum": ["red", "blue"]}


def ask_for(value: Any, schema: dict[str, Any]) -> Any:
    if "response_schema" in inspect.signature(interrupt).parameters:
        return interrupt(value, response_schema=schema)
    return interrupt(value)  # an older LangGraph


def order(state: Items) -> dict[str, Any]:
    return {"items": [ask_for("What do you order?", ORDER)]}


def colour(state: Items) -> dict[str, Any]:
    return {"items": [ask_for({"question": "Which colour?"}, COLOUR)]}


builder = StateGraph(Items)
builder.add_node("order", order)
builder.add_edge(START, "order")
form = builder.compile()

builder = StateGraph(Items)
builder.add_node("order", order)
builder.add_node("colour", colour)
builder.add_edge(START, "order")
builder.add_edge(START, "colour")
forms = builder.compile()


# --- reviews of tool calls, by LangChain's middleware -----------------------------------------------------------------


class Clerk(BaseChatModel):
    """Sends an e-mail and deletes a file, then says what came of it."""

    @property
    def _llm_type(self) -> str:
        return "clerk"

    def bind_tools(self, tools: Any, **kwargs: Any) -> "Clerk":
        return self

    def _generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatResult:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        reply = AIMessage(f"Done: {'; '.join(result.text for result in results)}")
        if not results:
            calls = (("send_email", {"to": "ann@example.com", "copies": 2}), ("delete_file", {"name": "report.txt"}))
            reply = AIMessage(
                "I will", tool_calls=[{"name": name, "args": args, "id": f"call-{name}"} for name, args in calls]
            )
        return ChatResult(generations=[ChatGeneration(message=reply)])


@tool
def send_email(to: str, copies: int = 1) -> str:
    """Send an e-mail."""
    return f"sent {copies} to {to}"


@tool
def delete_file(name: str) -> str:
    """Delete a file."""
    return f"deleted {name}"


def reviewed(**options: Any) -> Any:
    try:
        from langchain.agents import create_agent
        from langchain.agents.middleware import HumanInTheLoopMiddleware

        middleware = HumanInTheLoopMiddleware(
            {"send_email": True, "delete_file": {"allowed_decisions": ["approve", "reject"]}}, **options
        )
    except (ImportError, TypeError):  # not installed, or older
        return inbox
    return create_agent(Clerk(), [send_email, delete_file], middleware=[middleware])


approvals = reviewed()
approvals_each = reviewed(interrupt_mode="per_call")


# --- what is shown ----------------------------------------------------------------------------------------------------

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def show(state: MessagesState) -> dict[str, Any]:
    """One message of each kind of block, hostile ones among them."""
    kinds: list[Any] = [
        {"type": "reasoning", "reasoning": "It is small."},
        {"type": "thinking", "thinking": "It is **one** pixel."},
        {"type": "text", "text": "A picture:"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
        {"type": "image", "url": "https://pictures.example/cat.png"},
        {"type": "image_url", "image_url": {"url": "javascript:window.hacked=1"}},
        {"type": "image", "base64": "PHN2ZyBvbmxvYWQ9IndpbmRvdy5oYWNrZWQ9MSIvPg==", "mime_type": "image/svg+xml"},
        {"type": "file", "base64": "aGVsbG8=", "mime_type": "text/plain", "filename": "hello.txt"},
        {"type": "file", "url": "https://files.example/report.pdf", "mime_type": "application/pdf"},
        {"type": "audio", "url": "http://sounds.example/a.mp3", "mime_type": "audio/mpeg"},
        {"type": "file", "base64": "PHNjcmlwdD4=", "mime_type": "text/html", "filename": "x.html"},
        {"type": "of tomorrow", "what": "nobody knows"},
    ]
    call = {"name": "look_up", "args": {"word": "<b>pixel</b>"}, "id": "call-1"}
    return {
        "messages": [
            AIMessage(kinds, id="kinds"),
            AIMessage("", tool_calls=[call], id="calls"),
            ToolMessage("a **dot**", tool_call_id="call-1", name="look_up", id="result"),
            ToolMessage("no such word", tool_call_id="call-2", name="look_up", status="error", id="failed"),
        ]
    }


builder = StateGraph(MessagesState)
builder.add_node("show", show)
builder.add_edge(START, "show")
shown = builder.compile()


# --- forms of input and context ---------------------------------------------------------------------------------------


@dataclass
class Style:
    tone: Literal["kind", "curt"] = "kind"
    temperature: float = 0.5
    signed: bool = False


class Letter(TypedDict):
    to: str
    lines: list[str]
    copies: int


class Written(Letter, total=False):
    text: str


def write(state: Written, runtime: Runtime[Style]) -> dict[str, Any]:
    style = runtime.context or Style()
    said = {"tone": style.tone, "temperature": style.temperature, "signed": style.signed}
    return {"text": f"to {state['to']}: {state['lines']} times {state['copies']}, {json.dumps(said)}"}


builder = StateGraph(Written, input_schema=Letter, context_schema=Style)
builder.add_node("write", write)
builder.add_edge(START, "write")
letter = builder.compile()
