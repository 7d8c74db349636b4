"""Graphs that are trouble: no schema, no serialisation, values of megabytes, a node that kills its process."""

import os
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from gate import note
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from plain import Items, says
from pydantic import BaseModel
from typing_extensions import TypedDict


class Opaque(BaseModel):
    """JSON Schema cannot describe a function."""

    text: str = ""
    handler: Callable[[int], int] | None = None


builder = StateGraph(Opaque)
builder.add_node("speak", lambda state: {"text": "spoken"})
builder.add_edge(START, "speak")
opaque = builder.compile()


class Locked(TypedDict, total=False):
    text: str
    lock: Any


builder = StateGraph(Locked)
builder.add_sequence([("speak", lambda state: {"text": "spoken"}), ("lock", lambda state: {"lock": threading.Lock()})])
builder.add_edge(START, "speak")
unserialisable = builder.compile()


class Blob(TypedDict, total=False):
    n: int
    given: str
    blob: str


def inflate(state: Blob) -> dict[str, Any]:
    """n bytes that hardly compress."""
    return {"blob": os.urandom(state.get("n", 0) // 2).hex()}


builder = StateGraph(Blob)
builder.add_sequence([("inflate", inflate), ("measure", lambda state: {"n": len(state["blob"])})])
builder.add_edge(START, "inflate")
big = builder.compile()


class Numbers(TypedDict, total=False):
    kind: str
    value: Any
    text: str


KINDS: dict[str, Any] = {
    "large": 2**70,
    "larger": 10**400,
    "inside": {"a": [1, -(2**64)]},
    "fraction": Fraction(1, 3),
    "complex": 1 - 2j,
    "range": range(3),
    "path": PurePosixPath("a/b"),
    "too large": 10**5000,
}


def ask_for(state: Numbers) -> dict[str, Any]:
    """Asks with an interrupt whose value JSON readers would round."""
    if state["kind"] == "ask":
        return {"text": interrupt({"large": 2**70})}
    return {}


def tell(state: Numbers) -> dict[str, Any]:
    if state["kind"] == "too large":  # for Python to write
        return {}
    return {"text": f"{type(state.get('value')).__name__} {state.get('value')}"}


builder = StateGraph(Numbers)
builder.add_sequence([
    ("make", lambda state: {"value": KINDS.get(state["kind"], state.get("value"))}),
    ("ask_for", ask_for),
    ("tell", tell),
])  # fmt: skip
builder.add_edge(START, "make")
numbers = builder.compile()


class DatabaseError(Exception):
    """Of a kind that nobody expects to be shown."""


def fail(state: Numbers) -> dict[str, Any]:
    raise {"expected": ValueError, "recursion": GraphRecursionError}.get(state["kind"], DatabaseError)("the secret")


builder = StateGraph(Numbers)
builder.add_node("fail", fail)
builder.add_edge(START, "fail")
failing = builder.compile()


def fall(state: Items, config: RunnableConfig) -> dict[str, Any]:
    """Kills its process as often as `n` says, then passes."""
    folder = Path(state["gate"])
    fallen = len(list(folder.glob("fallen-*")))
    if fallen < state["n"]:
        (folder / f"fallen-{fallen}").touch()
        os._exit(70)
    return {"items": ["standing"]}


def stand(state: Items, config: RunnableConfig) -> dict[str, Any]:
    note(state["gate"], "stand", config["configurable"]["run_id"])
    return {"items": ["stood"]}


builder = StateGraph(Items)
builder.add_sequence([("stand", stand), ("fall", fall), ("last", says("last"))])
builder.add_edge(START, "stand")
crash = builder.compile()
