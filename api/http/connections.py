"""Connection limits: slow requests, clients that disconnect, bytes that are not HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from threadlog.api.http.errors import ApiError

# A body may take this much longer for each of its bytes: on a link of 10 kB/s 300 MB take their eight hours.
_BYTES_PER_SECOND = 10_000


def handler_args(read_timeout_seconds: float) -> dict[str, Any]:
    """How aiohttp treats the connections of an application.

    A connection whose next request is not there in time is closed: one that is idle, or has sent half of its headers.
    Nothing is unpacked for a client: a compressed body is refused (api.http.requests), whatever it would become.
    """
    logger = logging.getLogger("api.http")
    if not any(isinstance(known, _Brief) for known in logger.filters):
        logger.addFilter(_Brief())
    return {"auto_decompress": False, "keepalive_timeout": read_timeout_seconds, "logger": logger}


async def received(request: web.Request, limit: int, seconds: float) -> list[bytes]:
    """Returns the body, in the pieces it came in.

    Raises:
        ApiError: 413, it has more than `limit` bytes; 408, it has not arrived in `seconds` and what its size adds.
        Exception: the client has left in its midst, see `has_left`.
    """
    content = request.content
    if content.is_eof():
        parts = [content.read_nowait(-1)]
        size = len(parts[0])
    else:
        loop = asyncio.get_running_loop()
        began, parts, size = loop.time(), list[bytes](), 0
        try:
            async with asyncio.timeout(seconds) as deadline:
                while chunk := await content.readany():
                    parts.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        break
                    deadline.reschedule(began + seconds + size / _BYTES_PER_SECOND)
        except TimeoutError:
            raise ApiError(408, f"The request body did not arrive in time: {size} bytes in {seconds:g} s") from None
    if size > limit:
        raise too_large(limit)
    return parts


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request body is larger than the {limit} bytes that HTTP_MAX_REQUEST_BODY_BYTES allows")


def has_left(request: web.Request) -> bool:
    """Whether the client's connection is closed: an error can no longer be sent to it."""
    return request.transport is None or request.transport.is_closing()


class _Brief(logging.Filter):
    """What is not HTTP is one line for debugging, no error with a traceback: clients don't decide what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | ConnectionError):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg, record.args = "a request that is not HTTP: %s", (type(error).__name__,)
        record.exc_info = record.exc_text = None
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
