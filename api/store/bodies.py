"""Request bodies of /store. What a namespace may be `api.store.namespaces` says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from threadlog.api.http.bodies import Body, Filter, JsonObject, Offset, Text
from threadlog.api.http.limits import NAME_CHARACTERS, AtMost
from threadlog.engine.domain.store_limits import (
    NAMESPACE_LABELS,
    PATH_BYTES,
    check_item_key,
    check_ttl,
    check_value,
    check_value_size,
)

_PATHS = 100  # of texts of one item to embed


def _key(key: str) -> str:
    check_item_key(key)
    return key


def _value(value: JsonObject) -> JsonObject:
    check_value(value)
    check_value_size(value)
    return value


def _ttl(ttl: Any) -> Any:
    check_ttl(ttl)
    return None if ttl is None else float(ttl)


Labels = Annotated[list[Any], AtMost(10 * NAMESPACE_LABELS, "labels")]
ItemKey = Annotated[str, Field(min_length=1), AfterValidator(_key)]
Path = Annotated[str, AtMost(PATH_BYTES // 4, "characters")]
Label = Annotated[str, AtMost(NAME_CHARACTERS, "characters")]


class ItemBody(Body):
    namespace: Labels
    key: ItemKey
    value: Annotated[JsonObject, AfterValidator(_value)]
    index: Literal[False] | Annotated[list[Path], AtMost(_PATHS, "paths")] | None = None
    ttl: Annotated[float | None, BeforeValidator(_ttl)] = None


class ItemDelete(Body):
    namespace: Labels
    key: ItemKey


class ItemSearch(Body):
    namespace_prefix: Labels = Field(default_factory=list)
    filter: Filter | None = None
    limit: Annotated[int, Field(ge=0, le=1000)] = 10
    offset: Offset = 0
    query: Text | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(Body):
    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    limit: Annotated[int, Field(ge=0, le=1000)] = 100
    offset: Offset = 0
