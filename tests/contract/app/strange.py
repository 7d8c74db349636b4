"""Graphs whose texts are strange: what they raise, write, ask and stream can't be written as JSON, or not be stored."""

from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from plain import Items, says

LONE, NUL = "lone \ud800 half", "nul \x00 end"


class Untold(Exception):
    """Even to say what it is fails."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def strange(state: Items) -> dict[str, Any]:
    match state["n"]:
        case 0:
            raise ValueError(LONE)
        case 1:
            raise ValueError(NUL)
        case 2:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, LONE)
        case 3:
            raise Untold
        case 4:
            get_stream_writer()({LONE: LONE, "nul": NUL})
        case 5:
            return {"items": [interrupt({NUL: NUL, "deep": _nested(50)})]}
        case 6:
            return {"items": [{LONE: LONE}]}
        case 7:
            raise KeyError(LONE, b"\xff")
    return {"items": ["strange"]}


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


builder = StateGraph(Items)
builder.add_sequence([("before", says("before")), ("a\x00b\n", strange), ("after", says("after"))])
builder.add_edge(START, "before")
graph = builder.compile()
