"""Handler of /asyncapi.json."""

from __future__ import annotations

from functools import cache

import orjson
from aiohttp import web

from threadlog.api.context import api_of
from threadlog.api.http.models import AnyObject
from threadlog.api.http.responses import raw_reply
from threadlog.api.http.routes import Route, public
from threadlog.engine.catalogue.asyncapi import asyncapi


@public
async def describe(request: web.Request) -> web.Response:
    """Return the description of the log's topics and of every message in them.

    GET /asyncapi.json (threadlog's own, docs/audit.md).
    """
    api = api_of(request)
    return raw_reply(_document(api.settings.version, api.log.partitions))


@cache
def _document(version: str, partitions: int) -> bytes:
    return orjson.dumps(asyncapi(version, partitions))


routes = [Route("GET", "/asyncapi.json", describe, "The log's messages, as AsyncAPI", returns=AnyObject)]
