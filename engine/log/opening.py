"""The log as an api reads it where content is encrypted: the frames of `stream` come decrypted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from threadlog.engine.encryption.cipher import WrongKey, has_token, key_ids_of_lines, open_lines
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.log.port import Append, Log, LogUnavailable, Record, Topic
from threadlog.engine.postgres.errors import AWAY


class OpeningLog:
    """`engine.log.port.Log`, with frames decrypted; `null` stands for those whose key was destroyed."""

    def __init__(self, log: Log, keyring: Keyring) -> None:
        self._log, self._keyring = log, keyring

    @property
    def partitions(self) -> int:
        return self._log.partitions

    async def append(self, records: Sequence[Append]) -> list[int]:
        return await self._log.append(records)

    async def read(
        self, topic: Topic, partition: int, start: int, *, end: int | None = None, max_bytes: int = 4_194_304
    ) -> list[Record]:
        return await self._opened(await self._log.read(topic, partition, start, end=end, max_bytes=max_bytes))

    async def bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        return await self._log.bounds(topic, partition)

    async def tail(self, positions: Mapping[tuple[Topic, int], int]) -> AsyncGenerator[list[Record], None]:
        async with aclosing(self._log.tail(positions)) as batches:
            async for batch in batches:
                yield await self._opened(batch)

    async def aclose(self) -> None:
        await self._log.aclose()

    async def _opened(self, records: list[Record]) -> list[Record]:
        sealed = [n for n, r in enumerate(records) if r.topic is Topic.STREAM and has_token(r.value)]
        if not sealed:
            return records
        ids = {id for n in sealed for id in key_ids_of_lines(records[n].value)}
        if missing := self._keyring.missing(ids):
            try:
                await self._keyring.load(missing)
            except AWAY as error:
                raise LogUnavailable(f"data keys can't be read: {error!r}") from error
        opened = list(records)
        for n in sealed:
            opened[n] = replace(records[n], value=self._value(records[n]))
        return opened

    def _value(self, record: Record) -> bytes:
        try:
            return open_lines(record.value, self._keyring.known)
        except WrongKey:  # no key opens it
            return open_lines(record.value, lambda _: None)
