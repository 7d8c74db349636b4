"""Reads of encrypted content from Postgres: a connection whose rows come decrypted.

The one place where a process that shows or executes content decrypts what is stored. Connections of engines are plain:
deciders' states and read models are written as the log has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any, cast

import asyncpg
import orjson

from threadlog.engine.encryption.cipher import key_ids, may_be_sealed, open_bytes, open_text
from threadlog.engine.encryption.field_cipher import field_key_ids, field_names, has_field_token, open_fields
from threadlog.engine.encryption.keys import Keyring

# Columns with tokens. In others (metadata, items of the store) a token is a client's text, and no client can have
# another thread's ciphertext decrypted for it.
_COLUMNS = frozenset({"kwargs", "payload", "error", "interrupts", "channels", "shown", "writes", "answer"})
# Of a state update, with content and, in these places, metadata.
_UPDATE, _METADATA = "payload", (("metadata",), ("config", "metadata"))
# Columns with encrypted fields, whose tokens no client can send (`engine.encryption.content.reserved`).
_FIELDS = frozenset((
    "metadata", "config", "context", "value", "assistant_metadata", "thread_metadata", "thread_config",
))  # fmt: skip


class ContentLost(LookupError):
    """The key of a stored value was destroyed, or is not this installation's: the thread was deleted meanwhile."""


class OpenedRow(tuple[Any, ...]):
    """A row with decrypted values, used as `asyncpg.Record` is."""

    _names: dict[str, int]
    encrypted_fields: frozenset[str] = frozenset()
    """Names of fields of its objects that are encrypted where the row is stored, and of those that they are in."""

    @staticmethod
    def of(names: dict[str, int], values: Sequence[Any]) -> OpenedRow:
        row = OpenedRow(values)
        row._names = names
        return row

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(self._names[place] if isinstance(place, str) else place)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._names else default

    def keys(self) -> Any:
        return self._names.keys()

    def values(self) -> Any:
        return iter(self)

    def items(self) -> Any:
        return zip(self._names, self, strict=True)


class RowOpener:
    """Decrypts rows."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def opened(self, rows: Any) -> Any:
        """The rows, decrypted where they are encrypted. A token without a key stays.

        Raises:
            ContentLost: a stored value's key is not there.
            WrongKey: content does not fit its key.
        """
        places = {n: columns for n, row in enumerate(rows) if (columns := _sealed_columns(row))}
        objects = {n: found for n, row in enumerate(rows) if (found := _with_fields(row))}
        if not places and not objects:
            return rows
        ids = {id for n, columns in places.items() for column in columns for id in key_ids(rows[n][column])}
        ids |= {id for found in objects.values() for _, _, value in found for id in field_key_ids(value)}
        if missing := self._keyring.missing(ids):
            await self._keyring.load(missing)
        opened = [self._opened(row, places[n]) if n in places else row for n, row in enumerate(rows)]
        if objects:
            whole = [self._with_open_fields(opened[n], found) for n, found in objects.items()]
            for n, row in zip(objects, await asyncio.gather(*whole), strict=True):
                opened[n] = row
        return opened

    def _opened(self, row: asyncpg.Record, columns: list[int]) -> OpenedRow:
        values = list(row)
        for column in columns:
            value = values[column]
            if isinstance(value, str):
                values[column] = open_text(value, self._keyring.known)
            elif (found := open_bytes(value, self._keyring.known)) is not None:
                values[column] = found
            else:
                raise ContentLost("a stored value can't be decrypted: its key was destroyed with its thread")
        return OpenedRow.of({name: n for n, name in enumerate(row.keys())}, values)

    async def _with_open_fields(self, row: Any, objects: list[_Object]) -> OpenedRow:
        values = list(row)
        names = frozenset(name for _, _, value in objects for name in field_names(value))
        for column, path, value in objects:
            await open_fields(value, self._keyring.known, self._keyring.handlers)
            if path:  # the object as it was stored, whatever the rest of the column has become
                holder = whole = orjson.loads(values[column])
                for name in path[:-1]:
                    holder = holder[name]
                holder[path[-1]], value = value, whole
            values[column] = orjson.dumps(value).decode()
        opened = OpenedRow.of({name: n for n, name in enumerate(row.keys())}, values)
        opened.encrypted_fields = names
        return opened


_Object = tuple[int, tuple[str, ...], Any]
"""An object with encrypted fields: its column, its place in the column's value, and it."""


def _sealed_columns(row: asyncpg.Record) -> list[int]:
    return [
        n
        for n, (name, value) in enumerate(row.items())
        if may_be_sealed(value) and (type(value) is bytes or name in _COLUMNS)
    ]


def _with_fields(row: asyncpg.Record) -> list[_Object]:
    found: list[_Object] = []
    for n, (name, value) in enumerate(row.items()):
        if type(value) is not str:
            continue
        if name in _FIELDS:
            if has_field_token(value):
                found.append((n, (), orjson.loads(value)))
        elif name == _UPDATE and (has_field_token(value) or may_be_sealed(value)):
            whole = orjson.loads(value)
            for path in _METADATA:
                inner = whole
                for step in path:
                    inner = inner.get(step) if isinstance(inner, dict) else None
                if inner:
                    found.append((n, path, inner))
    return found


class _OpeningCursor:
    def __init__(self, cursor: Any, opener: RowOpener) -> None:
        self._cursor, self._opener = cursor, opener

    def __await__(self) -> Generator[Any, None, _OpeningCursor]:
        self._cursor = yield from self._cursor.__await__()
        return self

    async def fetch(self, n: int) -> Any:
        return await self._opener.opened(await self._cursor.fetch(n))


def opening(keyring: Keyring | None) -> type[asyncpg.Connection]:
    """The class of connections whose rows are decrypted with these keys; the usual one without keys."""
    if keyring is None:
        return asyncpg.Connection
    opener = RowOpener(keyring)

    class OpeningConnection(asyncpg.Connection):
        __slots__ = ()

        async def fetch(self, *args: Any, **named: Any) -> Any:
            return await opener.opened(await super().fetch(*args, **named))

        async def fetchrow(self, *args: Any, **named: Any) -> Any:
            row = await super().fetchrow(*args, **named)
            return None if row is None else (await opener.opened([row]))[0]

        def cursor(self, *args: Any, **named: Any) -> Any:
            return _OpeningCursor(super().cursor(*args, **named), opener)

    return cast("type[asyncpg.Connection]", OpeningConnection)
