"""Databases of a test's own on a Postgres server that others use as well."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg


def database_of(server_uri: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlunsplit(urlsplit(server_uri)._replace(path=f"/{name}"))


@asynccontextmanager
async def new_database(server_uri: str, *, template: str | None = None, prefix: str = "test") -> AsyncIterator[str]:
    """DSN of a new database, empty or a copy of `template`, which nobody may be connected to; dropped afterwards."""
    name = f"{prefix}_{uuid.uuid4().hex}"
    copy = f" TEMPLATE {template} STRATEGY file_copy" if template else ""
    await _execute(server_uri, f"CREATE DATABASE {name}{copy}")
    try:
        yield database_of(server_uri, name)
    finally:
        await _execute(server_uri, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(uri: str, statement: str) -> None:
    connection = await asyncpg.connect(uri)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
