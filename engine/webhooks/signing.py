"""Signatures by the scheme of Standard Webhooks (standardwebhooks.com), which receivers have libraries for."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def keys_of(secrets: str) -> tuple[bytes, ...]:
    """The keys of secrets of the form `whsec_<base64>`, separated by spaces: to rotate one, both are given for a while.

    Raises:
        ValueError: one is of another form, or has fewer than 24 bytes.
    """
    keys = []
    for secret in secrets.split():
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith(_PREFIX) or len(key) < 24:
            raise ValueError(f"expected {_PREFIX} and the base64 of at least 24 random bytes")
        keys.append(key)
    return tuple(keys)


def signature(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: `v1,<base64>` of the HMAC-SHA256 of `id.timestamp.body`, one for each key."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
