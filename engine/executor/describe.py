"""What clients may ask about a graph without running it: schemas, drawings, subgraphs, output channels (contract 5)."""

from __future__ import annotations

import hashlib
import logging
import typing
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import typing_extensions
from langgraph.pregel import Pregel
from pydantic import BaseModel, PydanticUserError, TypeAdapter, create_model

from engine.executor.jsonable import as_json

logger = logging.getLogger(__name__)

AnyGraph = Pregel[Any, Any, Any, Any]

_DEEPEST_XRAY = 10


def describe_graph(graph: AnyGraph, description: str | None) -> dict[str, Any]:
    """The `info` of `RegisterGraph`. What cannot be told (a schema with a type JSON Schema does not know) is null."""
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
        "input": _or_none(lambda: _schema(graph.get_input_jsonschema, _declared(graph, "input")), "input schema"),
        "output": _or_none(lambda: _schema(graph.get_output_jsonschema, _declared(graph, "output")), "output schema"),
        "state": _or_none(lambda: _state_schema(graph), "state schema"),
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


def _state_schema(graph: AnyGraph) -> dict[str, Any]:
    names = graph.stream_channels_asis
    if isinstance(names, str):
        return TypeAdapter(_value_type(graph.channels[names])).json_schema()
    fields: dict[str, Any] = {name: (_value_type(graph.channels[name]), None) for name in names}
    model: type[BaseModel] = create_model(f"{graph.get_name()}State", **fields)
    schema = model.model_json_schema()
    for field in schema.get("properties", {}).values():
        if field.get("default", ...) is None:
            del field["default"]
    return schema


def _value_type(channel: Any) -> Any:
    return getattr(channel, "ValueType", Any)


def _context_schema(graph: AnyGraph) -> dict[str, Any] | None:
    """Of the context, and so of `config.configurable`, which mirrors it."""
    schema: dict[str, Any] | None = _schema(graph.get_context_jsonschema, graph.context_schema)
    return schema


def _declared(graph: AnyGraph, which: str) -> Any:
    return getattr(getattr(graph, "builder", None), f"{which}_schema", None)


def _schema(make: Callable[[], Any], declared: Any) -> Any:
    """LangGraph's schema; before Python 3.12 pydantic refuses `typing.TypedDict`, so it gets one it takes."""
    try:
        return make()
    except PydanticUserError:
        if not typing.is_typeddict(declared):
            raise
    return TypeAdapter(_typed_dict(declared)).json_schema()


def _typed_dict(declared: Any) -> Any:
    hints = {
        name: hint if name in declared.__required_keys__ else typing_extensions.NotRequired[hint]
        for name, hint in typing.get_type_hints(declared, include_extras=False).items()
    }
    return typing_extensions.TypedDict(declared.__name__, hints)  # type: ignore[operator]


def _names(channels: Any) -> Any:
    return channels if isinstance(channels, str) else list(channels)


def _or_none(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except Exception as error:
        logger.debug("no %s: %s: %s", what, type(error).__name__, error)
        return None
