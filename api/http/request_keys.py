"""Typed keys of what belongs to a request (`request[KEY]`)."""

try:
    from aiohttp.web import RequestKey
except ImportError:  # aiohttp 3.14; before it, a request takes any object as a key
    from aiohttp.web import AppKey as RequestKey  # type: ignore[assignment]

__all__ = ["ANSWER", "REQUEST_ID", "RequestKey"]

REQUEST_ID: RequestKey[str] = RequestKey("request_id", str)
ANSWER: RequestKey[bytes] = RequestKey("answer", bytes)
"""The body of a response that was sent in pieces."""
