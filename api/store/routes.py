"""Handlers of /store: put, get, delete, search, namespaces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from threadlog.api.auth.gate import allowed
from threadlog.api.commands import submit
from threadlog.api.context import Api, api_of
from threadlog.api.encrypted_fields import require_readable
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import body, query_flag, query_text
from threadlog.api.http.responses import no_content, reply
from threadlog.api.http.routes import Query, Route, requires
from threadlog.api.store.bodies import ItemBody, ItemDelete, ItemSearch, NamespaceSearch
from threadlog.api.store.json import ItemResponse, ItemsResponse, NamespacesResponse, found_to_json, item_to_json
from threadlog.api.store.namespaces import of_item, of_prefix
from threadlog.api.store.semantic import embedded, found
from threadlog.engine.domain.store_limits import check_item_key
from threadlog.engine.store import listing, reading
from threadlog.engine.store.filters import FilterError
from threadlog.engine.store.writing import ItemWrite, touch_commands, write_commands


@requires("store.put")
async def put(request: web.Request) -> web.Response:
    """Put an item, instead of the one that is there.

    PUT /store/items (contract 1.4, 7).
    """
    api = api_of(request)
    params = await body(request, ItemBody)
    ttl = api.settings.store.default_ttl if params.ttl is None else params.ttl
    value: dict[str, Any] = {
        "namespace": tuple(of_item(params.namespace)),
        "key": params.key,
        "value": params.value,
        "index": params.index,
        "ttl": params.ttl,
    }
    await allowed(request, "store.put", value)
    namespace = of_item(_labels_in(value))
    vectors = await embedded(api, value["value"], value["index"])
    await _write(api, ItemWrite(namespace, params.key, value["value"], ttl, vectors))
    return no_content()


@requires("store.get")
async def get(request: web.Request) -> web.Response:
    """Return an item, or null when there is none.

    GET /store/items (contract 1.4, 7).
    """
    api = api_of(request)
    key = query_text(request, "key")
    if key is None:
        raise ApiError(400, "Key is required")
    try:
        check_item_key(key)
    except ValueError as error:
        raise ApiError(422, str(error)) from None
    text = query_text(request, "namespace")
    value: dict[str, Any] = {"namespace": tuple(of_item(text.split(".") if text is not None else ())), "key": key}
    await allowed(request, "store.get", value)
    namespace = of_item(_labels_in(value))
    rows = list((await reading.get(api.pool, [(namespace, key)])).values())
    await _refresh(api, rows, query_flag(request, "refresh_ttl", default=api.settings.store.refresh_on_read))
    response: ItemResponse | None = item_to_json(rows[0]) if rows else None
    return reply(response)


@requires("store.delete")
async def delete(request: web.Request) -> web.Response:
    """Delete an item; one that is not there is deleted already.

    DELETE /store/items (contract 1.4, 7).
    """
    params = await body(request, ItemDelete)
    value: dict[str, Any] = {"namespace": tuple(of_item(params.namespace)), "key": params.key}
    await allowed(request, "store.delete", value)
    await _write(api_of(request), ItemWrite(of_item(_labels_in(value)), params.key))
    return no_content()


@requires("store.search")
async def search(request: web.Request) -> web.Response:
    """Return the items under a prefix that match.

    POST /store/items/search (contract 1.4, 7).
    """
    api = api_of(request)
    params = await body(request, ItemSearch)
    value: dict[str, Any] = {
        "namespace": tuple(of_prefix(params.namespace_prefix)),
        "filter": params.filter,
        "limit": params.limit,
        "offset": params.offset,
        "query": params.query,
    }
    await allowed(request, "store.search", value)
    prefix = of_prefix(_prefix_in(value))
    require_readable(api, value["filter"], "filter")
    try:
        rows = await found(api, prefix, params, filter=value["filter"])
    except FilterError as error:
        raise ApiError(400, str(error)) from None
    refresh = api.settings.store.refresh_on_read if params.refresh_ttl is None else params.refresh_ttl
    await _refresh(api, rows, refresh)
    response: ItemsResponse = {"items": [found_to_json(row) for row in rows]}
    return reply(response)


@requires("store.list_namespaces")
async def namespaces(request: web.Request) -> web.Response:
    """Return the namespaces that have items and match.

    POST /store/namespaces (contract 1.4, 7).
    """
    params = await body(request, NamespaceSearch)
    value: dict[str, Any] = {
        "namespace": tuple(of_prefix(params.prefix)) or None,
        "suffix": params.suffix,
        "max_depth": params.max_depth,
        "limit": params.limit,
        "offset": params.offset,
    }
    await allowed(request, "store.list_namespaces", value)
    matches = [
        listing.NamespaceMatch("prefix", of_prefix(_prefix_in(value))),
        listing.NamespaceMatch("suffix", of_prefix(params.suffix)),
    ]
    listed = await listing.namespaces(
        api_of(request).pool, matches, max_depth=params.max_depth, limit=params.limit, offset=params.offset
    )
    response: NamespacesResponse = {"namespaces": listed}
    return reply(response)


def _labels_in(value: Mapping[str, Any]) -> list[Any]:
    """`namespace` of a value that the application's handler has seen, and perhaps changed."""
    namespace = value["namespace"]
    if not isinstance(namespace, list | tuple):
        raise ApiError(500, "The application's authorization made `namespace` something else than a list")
    return list(namespace)


def _prefix_in(value: Mapping[str, Any]) -> list[Any]:
    """The same of what has no namespace but a prefix, which may be none."""
    return [] if value["namespace"] is None else _labels_in(value)


async def _write(api: Api, write: ItemWrite) -> None:
    for command in write_commands([write]):
        await submit(api, command)


async def _refresh(api: Api, rows: Sequence[Mapping[str, Any]], refresh: bool) -> None:
    """The time to live of what has been read begins anew."""
    if refresh and (commands := touch_commands(rows)):
        await asyncio.gather(*(submit(api, command) for command in commands))


_ITEMS = "/store/items"
_ITEM_QUERY = (
    Query("namespace", help="labels, joined by periods"),
    Query("key", help="of the item"),
    Query("refresh_ttl", "boolean", "whether the time to live of the item begins anew"),
)

routes = [
    Route("PUT", _ITEMS, put, "Put an item", ItemBody, status=204, errors=(400,)),
    Route("GET", _ITEMS, get, "Get an item", query=_ITEM_QUERY, returns=ItemResponse | None, errors=(400,)),
    Route("DELETE", _ITEMS, delete, "Delete an item", ItemDelete, status=204, errors=(400,)),
    Route("POST", f"{_ITEMS}/search", search, "Search items", ItemSearch, returns=ItemsResponse, errors=(400,)),
    Route("POST", "/store/namespaces", namespaces, "List namespaces", NamespaceSearch, returns=NamespacesResponse),
]
