"""A whole server in this process: `serve` starts one in a thread of its own, for tests.

It speaks HTTP like any other, so whatever is tested with it works with `threadlog up`. Its log is in memory; the read
models are in a database of its own. Graphs run in this process, so what a test replaces in them is replaced.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from threadlog.testing.virtual_time import VirtualTime

if TYPE_CHECKING:
    from threadlog.engine.executor.graphs.loader import Graphs
    from threadlog.engine.user_code.langgraph_json import LanggraphJson
    from threadlog.testing.composition import ServerParts

T = TypeVar("T")
Migrations = Mapping[str, Mapping[int, tuple[int, Callable[..., Any]]]]
"""`{graph: {from version: (to version, function)}}`"""

SETTLE_SECONDS = 30.0
"""How long `advance` and `settled` wait, in real time, for what is under way."""


class ServerNotStarted(Exception):
    """A test server could not be started; the message says why."""


class LocalServer:
    """A running test server. Every method may be called from any thread, and blocks; none needs an event loop."""

    def __init__(self, url: str, parts: ServerParts, loop: asyncio.AbstractEventLoop, clock: VirtualTime) -> None:
        self.url = url
        self._parts, self._loop, self._clock = parts, loop, clock

    @property
    def client(self) -> LangGraphClient:
        """A new client, for the event loop it is used on."""
        return get_client(url=self.url)

    @property
    def sync_client(self) -> SyncLangGraphClient:
        """A new client for tests without an event loop."""
        return get_sync_client(url=self.url)

    @property
    def database_uri(self) -> str:
        """The DSN of the read models, for commands such as `threadlog migrate --check`."""
        return self._parts.database_uri

    def graph(self, graph_id: str) -> RemoteGraph:
        """A graph, or an assistant by its id, as LangGraph's client for graphs of other servers; for `given`, too."""
        return RemoteGraph(graph_id, url=self.url)

    @property
    def now(self) -> datetime:
        """The server's time, in UTC."""
        return self._clock.now

    def advance(
        self,
        by: timedelta | None = None,
        *,
        within_seconds: float = SETTLE_SECONDS,
        **units: float,
    ) -> None:
        """Move the server's time forward, by a `timedelta` or by units of one (`hours=1`).

        What becomes due on the way happens in its order, each at its time: delayed runs, crons (each of their times),
        expiring threads and items, repeated webhooks. Returns when that has happened and every run has ended.

        Raises:
            TimeoutError: something was still going on after `within_seconds` of real time.
        """
        step = timedelta(**units) if by is None else by
        if step < timedelta(0):
            raise ValueError("time only moves forward")
        self._call(self._clock.advance(step, within_seconds))

    def settled(self, *, within_seconds: float = SETTLE_SECONDS) -> None:
        """Return when nothing is due or under way. Raises `TimeoutError` as `advance` does."""
        self._call(self._clock.advance(timedelta(0), within_seconds))

    def deploy(
        self,
        config: str | Path | None = None,
        *,
        graphs: Mapping[str, Any] | None = None,
        migrations: Migrations | None = None,
    ) -> None:
        """Execute runs with other code from now on, as after a deployment; threads and assistants stay. Arguments as
        those of `serve`. A file's other sections count as they were when the server was started."""
        application = _application(config, graphs)
        self._call(self._deploy(application, graphs, migrations))

    async def _deploy(
        self, application: LanggraphJson, graphs: Mapping[str, Any] | None, migrations: Migrations | None
    ) -> None:
        await self._parts.executor.start(await asyncio.to_thread(_load, application, graphs, migrations))

    def events(self, key: str | None = None) -> list[dict[str, Any]]:
        """What the log has, in order: each event with its `key`, `at` and `partition`. `key`: a thread's id, or that
        of another aggregate (an assistant, `cron:<id>`); None: of all."""
        return self._call(_events(self._parts, key))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread().name == _THREAD:
            work.close()
            raise RuntimeError("a node can't wait for the server that runs it: call this from the test")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_THREAD = "threadlog-server"


@contextmanager
def serve(
    config: str | Path | None = None,
    *,
    graphs: Mapping[str, Any] | None = None,
    migrations: Migrations | None = None,
    database_uri: str | None = None,
) -> Iterator[LocalServer]:
    """A server for the length of a `with` block, with nothing in it.

    Args:
        config: the application's `langgraph.json` or its folder; by default that of the working directory.
        graphs: instead of a file: graphs, functions that make one, or agents, by the names they are to have.
        migrations: of these graphs' states, see docs/migrations.md: `{graph: {from version: (to version, function)}}`.
        database_uri: a Postgres server on which a database may be made. By default an embedded one (the extra
            `embedded`) that this process starts once, or that of THREADLOG_TESTING_DATABASE_URI.

    Raises:
        ServerNotStarted: a graph does not load, or there is no Postgres.
        engine.user_code.langgraph_json.ConfigError: the file can't be used.
    """
    from threadlog.testing.composition import bound_socket, prepare_imports, restore, settings_of
    from threadlog.testing.database import shared_postgres

    application = _application(config, graphs)
    postgres = database_uri or _postgres(shared_postgres)
    listening = bound_socket()
    port = listening.getsockname()[1]
    variables = prepare_imports(settings_of(application, postgres, port), application)
    server = _Thread(lambda: _serving(application, graphs, migrations, postgres, port, listening))
    try:
        yield server.start()
    finally:
        server.stop()
        listening.close()
        restore(variables)


def _postgres(shared: Callable[[], str]) -> str:
    from threadlog.deploy.postgres import PostgresFailed

    try:
        return shared()
    except PostgresFailed as error:
        raise ServerNotStarted(f"{error} (tests take THREADLOG_TESTING_DATABASE_URI)") from None


def _application(config: str | Path | None, graphs: Mapping[str, Any] | None) -> LanggraphJson:
    from threadlog.engine.user_code.langgraph_json import GraphSpec, LanggraphJson, load

    if graphs is None:
        return load(config or "langgraph.json")
    if config is not None:
        raise ValueError("give `config` or `graphs`, not both")
    named = {name: GraphSpec(name, "the test", name, False) for name in graphs}
    return LanggraphJson(path=Path("langgraph.json of a test").absolute(), graphs=named)


@asynccontextmanager
async def _serving(
    application: LanggraphJson,
    graphs: Mapping[str, Any] | None,
    migrations: Migrations | None,
    postgres: str,
    port: int,
    listening: socket.socket,
) -> AsyncIterator[LocalServer]:
    from threadlog.testing.composition import running, settings_of
    from threadlog.testing.database import new_database

    # Imported in a thread without a running loop, as an executor imports them before its loop runs.
    loaded = await asyncio.to_thread(_load, application, graphs, migrations)
    async with AsyncExitStack() as parts:
        uri = await parts.enter_async_context(new_database(postgres))
        clock = VirtualTime()
        server = await parts.enter_async_context(
            running(settings_of(application, uri, port), application, loaded, listening)
        )
        clock.drive(server.pool, server.look)
        yield LocalServer(f"http://127.0.0.1:{port}", server, asyncio.get_running_loop(), clock)


def _load(application: LanggraphJson, graphs: Mapping[str, Any] | None, migrations: Migrations | None) -> Graphs:
    from threadlog.engine.executor.graphs.loader import Graphs, load_graphs, loaded
    from threadlog.engine.executor.state_migrations import StateMigrations

    if graphs is None:
        found = load_graphs(application)
    else:
        specs, steps = application.graphs, migrations or {}
        found = Graphs({
            name: replace(
                loaded(specs[name], graph, Path.cwd()), migrations=StateMigrations(name, steps.get(name, {}))
            )
            for name, graph in graphs.items()
        })  # fmt: skip
    if found.broken:
        raise ServerNotStarted("\n".join(str(graph.error) for graph in found.broken))
    return found


async def _events(parts: ServerParts, key: str | None) -> list[dict[str, Any]]:
    from threadlog.engine.log.acceptance import Acceptance
    from threadlog.engine.log.port import Topic
    from threadlog.engine.log.records import EventRecord

    found = []
    for p in range(parts.log.partitions):
        acceptance = Acceptance()
        for record in await parts.log.read(Topic.EVENTS, p, 0, max_bytes=1 << 40):
            decoded = EventRecord.decode(record.value)
            if acceptance.accepts(decoded) and key in (None, decoded.key):
                about = {"key": decoded.key, "at": decoded.at, "partition": p}
                found += [{**event, **about} for event in decoded.events]
    return sorted(found, key=lambda event: event["at"])


class _Thread:
    """Runs a server in a thread with a loop of its own, from `start` to `stop`."""

    def __init__(self, serving: Callable[[], Any]) -> None:
        self._serving = serving
        self._started: Future[LocalServer] = Future()
        self._stop: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)

    def start(self) -> LocalServer:
        self._thread.start()
        return self._started.result()

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            import uvloop

            factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        except ImportError:
            factory = asyncio.new_event_loop
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(self._live())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    async def _live(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)

        self._stop = end
        async with self._serving() as server:
            self._started.set_result(server)
            await stop.wait()
