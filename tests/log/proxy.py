"""A proxy on the way to a server that can lose requests, answers, or the connection as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Passes bytes on both ways until told otherwise. `serve` is the handler for `asyncio.start_server`."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._marker: bytes | None = None
        self._deliver = True
        self.open = True  # False: connections are closed at once
        self.flows = asyncio.Event()  # cleared: connections stay, and no byte passes, on those to come neither
        self.flows.set()
        self.cut = asyncio.Event()  # a marked request came by
        self._writers: set[asyncio.StreamWriter] = set()

    def cut_at(self, marker: bytes, *, delivered: bool) -> None:
        """When a request with these bytes comes by: pass it on or not, and let no byte of an answer through."""
        self._marker, self._deliver = marker, delivered
        self.cut.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.close()
            return
        mine = {writer, server_writer}
        self._writers |= mine
        hit = asyncio.Event()
        try:
            await asyncio.gather(
                self._requests(reader, server_writer, writer, hit), self._answers(server_reader, writer, hit)
            )
        except asyncio.CancelledError:
            pass  # the test is over; asyncio would report it as a failure of the handler
        finally:
            for one in mine:
                one.close()
            self._writers -= mine

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._writers) // 2

    def drop_all(self) -> None:
        """Closes the connections there are."""
        for writer in self._writers:
            writer.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        hit: asyncio.Event,
    ) -> None:
        window = b""
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                window = window[-1024:] + data
                if self._marker is None or self._marker not in window:
                    server.write(data)
                    await server.drain()
                    continue
                self._marker = None
                hit.set()
                if self._deliver:
                    server.write(data)
                    await server.drain()
                else:
                    client.transport.abort()
                self.cut.set()
            # The server sees the end of what it got, and so handles it; the client is told by _answers.
            server.write_eof()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hit: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                if hit.is_set():
                    break  # the answer to the marked request, or to one before it
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
