"""Fixtures every test may use: a Postgres per session, a fresh database per test, real servers in both modes."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import data_folders, servers
from tests.databases import new_database
from threadlog.deploy.postgres import temporary_postgres
from threadlog.deploy.settings import EMBEDDED_PARTITIONS
from threadlog.projections.schema import migrate

pytest_plugins = ["tests.kafka_fixture", "tests.tiers", "tests.contract_statements"]

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
    data_folders.use_template(config)
    config.pluginmanager.register(config.stash[_POSTGRES], "threadlog-session-postgres")


@pytest.fixture(scope="session")
def postgres_uri(request: pytest.FixtureRequest) -> str:
    """DSN of the session's Postgres server (its default database; make your own with `database`)."""
    shared = getattr(request.config, "workerinput", {}).get("postgres_uri")
    return shared or request.config.stash[_POSTGRES].uri()


@pytest.fixture(scope="session")
async def _template(postgres_uri: str) -> AsyncIterator[str]:
    """The name of a migrated database to copy: much faster than migrating each."""
    async with new_database(postgres_uri, prefix="template") as dsn:
        await migrate(dsn, partitions=EMBEDDED_PARTITIONS)
        yield urlsplit(dsn).path.removeprefix("/")


@pytest.fixture
async def database(postgres_uri: str, _template: str) -> AsyncIterator[str]:
    """DSN of a fresh, migrated, empty database, dropped after the test."""
    async with new_database(postgres_uri, template=_template) as dsn:
        yield dsn


@pytest.fixture
async def empty_database(postgres_uri: str) -> AsyncIterator[str]:
    """DSN of a fresh database without any table, dropped after the test."""
    async with new_database(postgres_uri) as dsn:
        yield dsn


# --- real servers -----------------------------------------------------------------------------------------------------

_GIVEN_URL = os.environ.get("THREADLOG_TEST_URL", "").rstrip("/")
_MODES = ["given"] if _GIVEN_URL else ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)]


# Of a server of a test's own: each costs both it and the node, which keeps the topics of all tests, CPU. The session's
# server has as many as one with an embedded log.
KAFKA_PARTITIONS = 4


@dataclass(frozen=True)
class GivenServer:
    """Some server that runs already and has the graphs of tests/contract/app."""

    url: str
    mode: str = "given"


@pytest.fixture(scope="session", params=_MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Where a server's log is: `embedded` (in Postgres) or `kafka`. Tests that use this, or a server, run in both."""
    return request.param


@pytest.fixture(scope="session")
def start_server(mode: str, request: pytest.FixtureRequest) -> Callable[..., servers.Server]:
    """Starts servers of this mode with a log of their own: `start_server(config, **as_servers_start)`."""

    def start(config: Path, *, env: dict[str, str] | None = None, **options: Any) -> servers.Server:
        log: dict[str, str] = {}
        if mode == "kafka":
            log = {
                "KAFKA_BOOTSTRAP_SERVERS": request.getfixturevalue("kafka_bootstrap"),
                "THREADLOG_TOPIC_PREFIX": f"test-{uuid.uuid4().hex[:12]}.",
                "THREADLOG_PARTITIONS": str(KAFKA_PARTITIONS),
            }
        return servers.start(config, mode=mode, env={**log, **(env or {})}, **options)

    return start


@pytest.fixture(scope="session")
def server(mode: str, request: pytest.FixtureRequest) -> Iterator[servers.Server | GivenServer]:
    """A server with the graphs of tests/contract/app, for the whole session: not to be broken (see own_server)."""
    if _GIVEN_URL:
        yield GivenServer(_GIVEN_URL)
        return
    config = Path(__file__).parent / "contract" / "app" / "langgraph.json"
    env = {"THREADLOG_PARTITIONS": str(EMBEDDED_PARTITIONS)} if mode == "kafka" else {}
    running = request.getfixturevalue("start_server")(config, env=env, first_start=True, fresh=True)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def own_server(start_server: Callable[..., servers.Server]) -> Iterator[Callable[..., servers.Server]]:
    """Starts servers for one test, which may break them; they are stopped afterwards."""
    started: list[servers.Server] = []

    def start(config: Path, **options: Any) -> servers.Server:
        started.append(start_server(config, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests on one session's server stay with one worker: another would have to start a server of its own."""
    if nameless := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"workers can't agree on a test that an address in memory names: {nameless[0]}")
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "mode" in callspec.params and "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(f"server-{callspec.params['mode']}"))
