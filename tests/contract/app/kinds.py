"""Every way a graph may be given: compiled, as a builder, a function, typed state, factories, a context manager."""

import operator
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from plain import Items, chain
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

try:
    from langgraph_sdk.runtime import ServerRuntime
except ImportError:  # an older langgraph-sdk: `told` is not called there
    ServerRuntime = Any


class Seen(TypedDict, total=False):
    seen: dict[str, Any]


@dataclass
class Setting:
    """What the inspecting graph may be given as context."""

    model: str = "none"
    tone: str | None = None


def look(state: Seen, config: RunnableConfig, runtime: Runtime[Setting]) -> dict[str, Any]:
    configurable = dict(config["configurable"])
    user = configurable.get("langgraph_auth_user")
    seen = {
        "configurable": configurable,
        "metadata": config.get("metadata"),
        "tags": config.get("tags"),
        "recursion_limit": config.get("recursion_limit"),
        "run_id": config.get("run_id"),
        "context": runtime.context,
        "auth_identity": getattr(user, "identity", None),
        "env": os.environ.get("CONTRACT_ENV"),
        "pid": os.getpid(),
    }
    return {"seen": orjson.loads(orjson.dumps(seen, default=str, option=orjson.OPT_NON_STR_KEYS))}


builder = StateGraph(Seen, context_schema=Setting)
builder.add_node("look", look)
builder.add_edge(START, "look")
inspect = builder.compile()

uncompiled = chain("a", "b")


@task
async def double(number: int) -> int:
    return number * 2


@entrypoint()
async def functional(numbers: list[int]) -> dict[str, Any]:
    return {"doubled": [await double(number) for number in numbers]}


class Person(BaseModel):
    name: str
    age: int = Field(ge=0)


class People(BaseModel):
    people: list[Person]
    oldest: Person | None = None


def find_oldest(state: People) -> dict[str, Any]:
    return {"oldest": max(state.people, key=lambda person: person.age)}


builder = StateGraph(People)
builder.add_node("find_oldest", find_oldest)
builder.add_edge(START, "find_oldest")
typed = builder.compile()


class Aged(BaseModel):
    age: int
    items: Annotated[list[str], operator.add] = []


builder = StateGraph(Aged)
# pydantic's own copies are not validated, and neither is what a node returns: the next node's schema refuses it
builder.add_node("check", lambda state: {"items": ["checked"], **({"age": "spoilt"} if state.age < 0 else {})})
builder.add_node("use", lambda state: {"items": [f"{state.age}"]})
builder.add_edge(START, "check")
builder.add_edge("check", "use")
aged = builder.compile()

held: list[list[str]] = []


class Mutated(TypedDict, total=False):
    first: list[str]
    seen: list[str]


def give(state: Mutated) -> dict[str, Any]:
    held.append(["given"])
    return {"first": held[-1]}


def change(state: Mutated) -> dict[str, Any]:
    """Changes what another node has returned, and what it was given, and returns neither."""
    held.pop().append("changed by its maker")
    state["first"].append("changed by another")
    return {}


builder = StateGraph(Mutated)
builder.add_sequence([("give", give), ("change", change), ("see", lambda state: {"seen": list(state["first"])})])
builder.add_edge(START, "give")
mutating = builder.compile()


def factory(config: RunnableConfig) -> Pregel:
    """The graph depends on the run: its nodes are named after what the run asks for."""
    return chain(*config.get("configurable", {}).get("words", ["made"])).compile()


async def async_factory() -> StateGraph:
    return chain("made", "later")


@asynccontextmanager
async def context_manager(config: RunnableConfig) -> AsyncIterator[Pregel]:
    """The graph lives as long as the resource it uses."""
    resource = ["open"]

    def use(state: Items) -> dict[str, Any]:
        return {"items": list(resource)}

    builder = StateGraph(Items)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    try:
        yield builder.compile()
    finally:
        resource[:] = ["closed"]


def told(config: RunnableConfig, /, runtime: ServerRuntime) -> Pregel:
    """A graph that shows what its factory was told, in its drawing, in what runs write and in what updates write."""
    configurable = config["configurable"]
    label = f"{runtime.access_context}, {configurable['__is_for_execution__']}"

    def labelled(before: list[str], new: list[str]) -> list[str]:
        return before + [f"{item} ({label})" for item in new]

    class Told(TypedDict, total=False):
        items: Annotated[list[str], labelled]
        told: dict[str, Any]

    def node(state: Told) -> dict[str, Any]:
        seen = orjson.loads(orjson.dumps(configurable, default=str))
        return {"items": ["run"], "told": seen}

    builder = StateGraph(Told)
    builder.add_node("node", node, metadata={"label": label})
    builder.add_edge(START, "node")
    return builder.compile().with_config(config)
