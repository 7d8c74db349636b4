"""Messages over a local socket: msgpack, each after its length in four bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import ormsgpack

_HEAD = 4


class Framed(asyncio.Protocol):
    """One end of a connection. `received(message)` is called for every message, `closed()` once at the end.

    Bytes that are no messages end the connection.
    """

    def __init__(self, received: Callable[[Any], None], closed: Callable[[], None]) -> None:
        self._received, self._closed = received, closed
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._unwanted = False  # closed before it was made

    def send(self, message: Any) -> None:
        """Hand a message over; into nowhere when the connection is gone (`closed` says so)."""
        if self._transport is not None:
            self._transport.write(self.packed(message))

    @staticmethod
    def packed(message: Any) -> bytes:
        packed = ormsgpack.packb(message)
        return len(packed).to_bytes(_HEAD) + packed

    def close(self) -> None:
        self._unwanted = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._unwanted:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closed()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= _HEAD:
                stop = start + _HEAD + int.from_bytes(buffer[start : start + _HEAD])
                if stop > end:
                    break
                self._received(ormsgpack.unpackb(bytes(buffer[start + _HEAD : stop])))
                start = stop
        except ormsgpack.MsgpackDecodeError:
            self.close()
        if start:
            del buffer[:start]
