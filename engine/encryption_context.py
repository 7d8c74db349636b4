"""The encryption context of what is being done: what the application's handlers are told with each call.

It comes with a request (the header `X-Encryption-Context`, and the application's `@encryption.context`), is stored
readable beside what was encrypted in it, and is handed back for decryption.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import orjson

HEADER = "X-Encryption-Context"
CONTEXT_BYTES = 4096
"""Of a context's JSON: it is stored with each data key and each encrypted field."""

Context = Mapping[str, Any]

CONTEXT: ContextVar[Context] = ContextVar("encryption_context", default=MappingProxyType({}))
"""Of the request that is handled, of the attempt that is made; `{}` outside of both."""

PROTECTED: ContextVar[frozenset[str]] = ContextVar("fields_of_authorization", default=frozenset())
"""Names of metadata that the authorization of the request filters by: they have to stay readable."""


class InvalidContext(ValueError):
    """The message says what is wrong with it, for its sender."""


def context_of_header(text: str) -> Context:
    """The context that the header holds: base64 of a JSON object. Raises InvalidContext."""
    try:
        context = orjson.loads(b64decode(text.strip(), validate=True))
    except ValueError:
        raise InvalidContext(f"{HEADER} must be base64 of a JSON object") from None
    return checked(context, HEADER)


def header_of(context: Context) -> str:
    return b64encode(orjson.dumps(dict(context))).decode()


def checked(context: Any, where: str) -> Context:
    """The context, if it is one. Raises InvalidContext."""
    if not isinstance(context, dict):
        raise InvalidContext(f"{where} must be a JSON object, and is {type(context).__name__}")
    try:
        size = len(orjson.dumps(context))
    except TypeError as error:
        raise InvalidContext(f"{where} must be JSON: {error}") from None
    if size > CONTEXT_BYTES:
        raise InvalidContext(f"{where} has {size} bytes of JSON; at most {CONTEXT_BYTES} are allowed")
    return context
