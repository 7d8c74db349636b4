"""What an application has said itself, which the server's defaults must not override: limits, names, contexts."""

from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


class Seen(TypedDict, total=False):
    seen: dict[str, Any]
    remaining: RemainingSteps


def look(state: Seen, config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, Any]:
    context = runtime.context
    shown = context if context is None or isinstance(context, dict) else [type(context).__name__, dict(vars(context))]
    return {
        "seen": {
            "recursion_limit": config.get("recursion_limit"),
            "remaining": state["remaining"],
            "tags": config.get("tags"),
            "context": shown,
            "extra": getattr(context, "model_extra", None),
        }
    }


def looking(context_schema: Any = None) -> StateGraph:
    builder = StateGraph(Seen, context_schema=context_schema)
    builder.add_node("look", look)
    builder.add_edge(START, "look")
    return builder


@dataclass
class Defaults:
    """Everything has a default, as in the templates people start from."""

    model: str = "default"
    tone: str | None = None


@dataclass
class Demanding:
    key: str
    model: str = "default"


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str = "default"


class Loose(TypedDict, total=False):
    model: str


unbound = looking(Defaults).compile()
called = looking().compile(name="A name of its own")
bound = looking().compile().with_config(recursion_limit=50, run_name="Bound", tags=["bound"])
demanding = looking(Demanding).compile()
modelled = looking(Model).compile()
loose = looking(Loose).compile()


def built(config: RunnableConfig) -> Pregel:
    return looking().compile(name="Made for this run")
