"""Fixtures every test may use: a Postgres per session, a fresh database per test."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from deploy.postgres import temporary_postgres
from deploy.settings import EMBEDDED_PARTITIONS
from projections.schema import migrate
from projections.schema import migrate

# Nothing in the tests survives a power cut, so nothing waits for the disk. Chaos tests start their own servers.
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "500"}


class _SessionPostgres:
    """One server per test session: the workers of pytest-xdist share the one their controller started."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._uri: str | None = None

    def uri(self) -> str:
        if self._uri is None:
            self._uri = self._open.enter_context(temporary_postgres(_FAST)).uri
        return self._uri

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        node.workerinput["postgres_uri"] = self.uri()  # type: ignore[attr-defined]

    def pytest_unconfigure(self) -> None:
        self._open.close()


_POSTGRES = pytest.StashKey[_SessionPostgres]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_POSTGRES] = _SessionPostgres()
    config.pluginmanager.register(config.stash[_POSTGRES], "threadlog-session-postgres")


@pytest.fixture(scope="session")
def postgres_uri(request: pytest.FixtureRequest) -> str:
    """DSN of the session's Postgres server (its default database; make your own with `database`)."""
    shared = getattr(request.config, "workerinput", {}).get("postgres_uri")
    return shared or request.config.stash[_POSTGRES].uri()


def database_of(server_uri: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlunsplit(urlsplit(server_uri)._replace(path=f"/{name}"))


async def _execute(uri: str, *statements: str) -> None:
    connection = await asyncpg.connect(uri)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
async def _template(postgres_uri: str) -> AsyncIterator[str]:
    """A migrated database to copy: much faster than migrating each."""
    name = f"template_{os.getpid()}"
    await _execute(postgres_uri, f"CREATE DATABASE {name}")
    await migrate(database_of(postgres_uri, name), partitions=EMBEDDED_PARTITIONS)
    yield name
    await _execute(postgres_uri, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(postgres_uri: str, _template: str) -> AsyncIterator[str]:
    """DSN of a fresh, migrated, empty database, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(postgres_uri, f"CREATE DATABASE {name} TEMPLATE {_template} STRATEGY file_copy")
    yield database_of(postgres_uri, name)
    await _execute(postgres_uri, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database(postgres_uri: str) -> AsyncIterator[str]:
    """DSN of a fresh database without any table, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(postgres_uri, f"CREATE DATABASE {name}")
    yield database_of(postgres_uri, name)
    await _execute(postgres_uri, f"DROP DATABASE {name} WITH (FORCE)")
