"""Databases of test servers: copies of one migrated template, on a Postgres that a session keeps for itself.

The embedded server's files stay in a cache folder between sessions, as `initdb` and the migrations take seconds; each
process of a test session uses a folder that no other one uses.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from threadlog.deploy.postgres import EmbeddedPostgres, PostgresFailed
from threadlog.projections.schema import migrate, migrations

PARTITIONS = 4
"""Of a test server's log: each costs a few rows at every start."""

DATABASE_VARIABLE = "THREADLOG_TESTING_DATABASE_URI"
CACHE_VARIABLE = "THREADLOG_TESTING_CACHE_DIR"

_PREFIX = "threadlog_testing_"
_SLOTS = 64
_IN_USE = "is in use by"
# Nothing of a test survives a power cut, so nothing waits for the disk.
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "32MB"}

# All that is due is due by the database's `now()`: this one, found before that of pg_catalog, can be moved forward.
# Leases of processes are by the same clock, so those of a test server last longer than anybody moves it.
_CLOCK = """
CREATE SCHEMA virtual_time;
CREATE TABLE virtual_time.clock (ahead interval NOT NULL);
INSERT INTO virtual_time.clock VALUES ('0');
CREATE FUNCTION virtual_time.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS 'SELECT pg_catalog.now() + (SELECT ahead FROM virtual_time.clock)';
"""


@contextmanager
def session_postgres() -> Iterator[str]:
    """The DSN of a server to make databases on: the one of THREADLOG_TESTING_DATABASE_URI, else an embedded one.

    Raises:
        PostgresFailed: there is none, and the embedded one can't be started.
    """
    if given := os.environ.get(DATABASE_VARIABLE):
        yield given
        return
    server = _started()
    try:
        yield server.uri
    finally:
        server.stop()


_shared: ExitStack | None = None
_shared_uri: str | None = None
_sharing = threading.Lock()


def shared_postgres() -> str:
    """The DSN of a server that this process starts once, and that ends with it."""
    global _shared, _shared_uri
    with _sharing:
        if _shared_uri is None:
            import atexit

            _shared = ExitStack()
            _shared_uri = _shared.enter_context(session_postgres())
            atexit.register(_shared.close)
        return _shared_uri


def _started() -> EmbeddedPostgres:
    folder = _cache_folder()
    for slot in range(_SLOTS):
        server = EmbeddedPostgres(folder / f"postgres-{slot}" / "data", settings=_FAST)
        try:
            return _start(server)
        except PostgresFailed as error:
            if _IN_USE not in str(error):
                raise
    raise PostgresFailed(f"{_SLOTS} test sessions use the folders of {folder}: set {CACHE_VARIABLE} to another one")


def _start(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """Start it, with files made anew where those that are there can't be used: after a power cut they may be broken."""
    server.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        server.start()
    except PostgresFailed as error:
        if _IN_USE in str(error) or not server.folder.exists():
            raise
        shutil.rmtree(server.folder)
        server.start()
    try:
        _run_apart(_drop_leftovers(server.uri))
    except BaseException:
        server.stop()
        raise
    return server


def _cache_folder() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "threadlog" / "testing"


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, wherever it is called from: in a thread of its own, as this one may have a running loop."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="threadlog-testing")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


async def _drop_leftovers(uri: str) -> None:
    """Databases of a session that was killed: this process alone uses the server."""
    async with _connected(uri) as connection:
        names = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE $1", f"{_PREFIX}db_%")
        for name in names:
            await connection.execute(f'DROP DATABASE "{name[0]}" WITH (FORCE)')


@asynccontextmanager
async def new_database(server_uri: str) -> AsyncIterator[str]:
    """The DSN of an empty database that has all tables and a clock of its own; dropped afterwards."""
    name = f"{_PREFIX}db_{uuid.uuid4().hex}"
    async with _connected(server_uri) as connection:
        template = await _template(server_uri, connection)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        await connection.execute(f"ALTER DATABASE {name} SET search_path TO virtual_time, pg_catalog, public")
    try:
        yield _database(server_uri, name)
    finally:
        async with _connected(server_uri) as connection:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _template(server_uri: str, connection: asyncpg.Connection) -> str:
    """The name of the template for this version's tables, made if the server has none."""
    text = "\0".join([_CLOCK, str(PARTITIONS), *(sql for _, sql in migrations())])
    name = f"{_PREFIX}template_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
    if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
        return name
    # Beside, then renamed: what is found under the name is whole, however many make it at once.
    fresh = f"{_PREFIX}db_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE DATABASE {fresh} TEMPLATE template0")
    async with _connected(_database(server_uri, fresh)) as inside:
        await migrate(inside, partitions=PARTITIONS)
        await inside.execute(_CLOCK)
    try:
        await connection.execute(f"ALTER DATABASE {fresh} RENAME TO {name}")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        await connection.execute(f"DROP DATABASE {fresh} WITH (FORCE)")
    return name


@asynccontextmanager
async def _connected(uri: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(uri)
    try:
        yield connection
    finally:
        with suppress(OSError):
            await connection.close()


def _database(server_uri: str, name: str) -> str:
    return urlunsplit(urlsplit(server_uri)._replace(path=f"/{name}"))
