"""What clients may ask about a graph without running it: schemas, drawings, subgraphs, output channels (contract 5)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from typing_extensions import is_typeddict

from threadlog.engine.executor.graphs import json_schema
from threadlog.engine.executor.reporting.jsonable import as_json

logger = logging.getLogger(__name__)

AnyGraph = Pregel[Any, Any, Any, Any]

_DEEPEST_XRAY = 10


def describe_graph(graph: AnyGraph, description: str | None) -> dict[str, Any]:
    """The `info` of `RegisterGraph`. What cannot be told is null, or without detail."""
    info = {
        "description": description,
        "schemas": schemas(graph),
        "drawings": drawings(graph),
        "subgraphs": _subgraphs(graph),
        "out": _or_none(lambda: _names(graph.stream_channels_asis), "output channels"),
    }
    return as_json(info)  # type: ignore[no-any-return]


def broken_graph(message: str, description: str | None) -> dict[str, Any]:
    """The `info` of a graph whose code does not load."""
    return {"description": description, "error": message}


def digest_of(info: Mapping[str, Any]) -> str:
    return hashlib.blake2b(orjson.dumps(info, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


def schemas(graph: AnyGraph) -> dict[str, Any]:
    """JSON Schemas: input, output, state, config (the configurable part), context."""
    return {
        "input": _or_none(lambda: _side_schema(graph, "input"), "input schema"),
        "output": _or_none(lambda: _side_schema(graph, "output"), "output schema"),
        "state": _or_none(lambda: _channels_schema(graph, graph.stream_channels_asis, "State"), "state schema"),
        "config": _or_none(lambda: _context_schema(graph) or {"type": "object", "properties": {}}, "config schema"),
        "context": _or_none(lambda: _context_schema(graph), "context schema"),
    }


def drawings(graph: AnyGraph) -> dict[str, Any]:
    """`{"0": …, "1": …, "true": …}`: the graph with subgraphs unfolded to that depth; every depth that differs."""
    drawn: dict[str, Any] = {}
    flat = _or_none(lambda: _drawing(graph, False), "drawing")
    if flat is None:
        return drawn
    drawn["0"] = flat
    deepest = _or_none(lambda: _drawing(graph, True), "drawing with subgraphs") or flat
    drawn["true"] = deepest
    if deepest == flat:
        return drawn
    for depth in range(1, _DEEPEST_XRAY):
        level = _or_none(lambda depth=depth: _drawing(graph, depth), "drawing with subgraphs")  # type: ignore[misc]
        if level is None:
            break
        drawn[str(depth)] = level
        if level == deepest:
            break
    return drawn


def _drawing(graph: AnyGraph, xray: int | bool) -> dict[str, Any]:
    drawing = graph.get_graph(xray=xray)
    plain = drawing.to_json()
    for node, shown in zip(drawing.nodes.values(), plain["nodes"], strict=True):
        if not isinstance(shown.get("data"), dict):
            shown["data"] = {"name": shown.get("data", node.name)}
        if node.metadata:
            shown["metadata"] = node.metadata
    return as_json(plain)  # type: ignore[no-any-return]


def _subgraphs(graph: AnyGraph) -> dict[str, Any]:
    found = _or_none(lambda: list(graph.get_subgraphs(recurse=True)), "subgraphs") or []
    return {ns: {"graph_id": sub.get_name(), **schemas(sub)} for ns, sub in found if isinstance(sub, Pregel)}


def _side_schema(graph: AnyGraph, side: str) -> dict[str, Any]:
    """Of the graph's `input` or `output`."""
    make = getattr(graph, f"get_{side}_jsonschema")
    declared = getattr(getattr(graph, "builder", None), f"{side}_schema", None)
    # LangGraph's schema of such a class depends on nothing but the class, and takes milliseconds: most graphs have one
    # for input and output, and many applications one for most graphs.
    if type(graph) is CompiledStateGraph and is_typeddict(declared):
        return _of_class(declared, lambda: _schema(make, declared, dict))
    schema: dict[str, Any] = _schema(
        make,
        declared,
        lambda: _channels_schema(graph, getattr(graph, f"{side}_channels"), side.title()),
    )
    return schema


_OF_CLASSES: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def _of_class(declared: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if declared not in _OF_CLASSES:
        _OF_CLASSES[declared] = make()
    return _OF_CLASSES[declared]


def _channels_schema(graph: AnyGraph, names: Any, kind: str) -> dict[str, Any]:
    if isinstance(names, str):
        return json_schema.of_type(_value_type(graph.channels[names]))
    fields = {name: (_value_type(graph.channels[name]), None) for name in names}
    return json_schema.of_fields(f"{graph.get_name()}{kind}", fields)


def _value_type(channel: Any) -> Any:
    return getattr(channel, "ValueType", Any)


def _context_schema(graph: AnyGraph) -> dict[str, Any] | None:
    """Of the context, and so of `config.configurable`, which mirrors it."""
    schema: dict[str, Any] | None = _schema(graph.get_context_jsonschema, graph.context_schema, dict)
    return schema


def _schema(make: Callable[[], Any], declared: Any, channels: Callable[[], Any]) -> Any:
    """LangGraph's schema; where it raises, ours, in which a field that can't be expressed costs only its own detail."""
    try:
        return make()
    except Exception:
        return channels() if declared is None else json_schema.of_type(declared)


def _names(channels: Any) -> Any:
    return channels if isinstance(channels, str) else list(channels)


def _or_none(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except Exception as error:
        logger.debug("no %s: %s: %s", what, type(error).__name__, error)
        return None
