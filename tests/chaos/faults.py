"""What is done to a running server. Every fault is over when it returns: what was killed is there again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil

from tests.processes import suspend
from tests.servers import Server
from threadlog.deploy.kafka import KafkaCluster
from threadlog.deploy.lease_owner import OWNER
from threadlog.deploy.parent import PARENT_PID

_CONFIG = Path(__file__).parent / "app" / "langgraph.json"
_PAUSE_SECONDS = 8.0  # longer than any lease


@dataclass(frozen=True)
class Target:
    """A server and, in Kafka mode, the broker its log is in.

    `paused`: processes that were held so long that others had to take their work for abandoned.
    """

    server: Server
    broker: KafkaCluster | None = None
    paused: set[int] = field(default_factory=set)


Fault = Callable[[Target], Awaitable[None]]


def kill(process: str, how: signal.Signals = signal.SIGKILL) -> Fault:
    """The supervisor starts another. With SIGTERM an executor hands its runs over first."""

    async def fault(target: Target) -> None:
        server = target.server
        pid = await asyncio.to_thread(server.kill, process, how)
        await asyncio.to_thread(server.wait_replaced, process, pid, 60)
        await asyncio.to_thread(server.wait_ok, 60)

    return fault


def restart_postgres(how: signal.Signals) -> Fault:
    """SIGINT disconnects everybody (fast), SIGQUIT leaves everything as it is (immediate), SIGKILL crashes."""

    async def fault(target: Target) -> None:
        await asyncio.to_thread(target.server.restart_postgres, how)
        await asyncio.to_thread(target.server.wait_ok, 60)

    return fault


async def crash_broker(target: Target) -> None:
    """`kill -9` of the only node, and its return with the same data."""
    assert target.broker is not None
    await asyncio.to_thread(target.broker.kill)
    await restart_broker(target)


async def restart_broker(target: Target) -> None:
    """A clean stop of the only node, and its return."""
    assert target.broker is not None
    await asyncio.to_thread(target.broker.restart)
    await asyncio.to_thread(target.server.wait_ok, 60)


# --- beyond the list, for longer storms ----------------------------------------------------------------------


async def kill_backend(target: Target) -> None:
    """One of Postgres' processes is killed, as for lack of memory: Postgres ends all others and recovers."""
    postmaster = psutil.Process(target.server.pids["postgres"])
    serving = [one for one in postmaster.children() if "[local]" in " ".join(one.cmdline())]
    with suppress(psutil.NoSuchProcess):
        random.choice(serving).kill()
    await asyncio.to_thread(target.server.wait_ok, 60)


async def database_away(target: Target) -> None:
    """Postgres is gone for longer than leases last: its keeper is held meanwhile."""
    server = target.server
    keeper = server.process.pid
    await asyncio.to_thread(suspend, keeper)
    try:
        pid = await asyncio.to_thread(server.kill, "postgres", signal.SIGINT)
        await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        os.kill(keeper, signal.SIGCONT)
    await asyncio.to_thread(server.wait_replaced, "postgres", pid, 60)
    await asyncio.to_thread(server.wait_ok, 60)


def pause(process: str) -> Fault:
    """A process is held for longer than its leases last, and goes on as if nothing had been."""

    async def fault(target: Target) -> None:
        pid = target.server.pids[process]
        target.paused.add(pid)
        try:
            await asyncio.to_thread(suspend, pid)
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(target.server.wait_ok, 60)

    return fault


def second_engine(meanwhile: Fault | None = None, end: signal.Signals = signal.SIGKILL) -> Fault:
    """Another engine takes its share of the partitions; `meanwhile` something happens; then it ends."""

    async def fault(target: Target) -> None:
        server = target.server
        env = {**server.env, "DATABASE_URI": server.database_uri, "THREADLOG_CONFIG": str(_CONFIG)}
        owner = f"second-{os.urandom(4).hex()}"
        with (server.data_dir / "second-engine.log").open("ab") as said:
            engine = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "threadlog.deploy.cli", "engine",
                env={**env, OWNER: owner, PARENT_PID: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        try:
            await _owns_partitions(server.database_uri, owner)
            if meanwhile is not None:
                await meanwhile(target)
        finally:
            with suppress(ProcessLookupError):
                engine.send_signal(end)
            await engine.wait()
        await asyncio.to_thread(server.wait_ok, 60)

    return fault


async def _owns_partitions(uri: str, owner: str) -> None:
    async with asyncio.timeout(60):
        while True:
            connection = await asyncpg.connect(uri)
            try:
                if await connection.fetchval("SELECT EXISTS (SELECT FROM partitions WHERE owner = $1)", owner):
                    return
            finally:
                await connection.close()
            await asyncio.sleep(0.05)


def together(*faults: Fault) -> Fault:
    async def fault(target: Target) -> None:
        await asyncio.gather(*[one(target) for one in faults])

    return fault


_EXECUTORS: Mapping[str, Fault] = {f"kill executor-{n}": kill(f"executor-{n}") for n in (1, 2)}
_CRASH_POSTGRES = restart_postgres(signal.SIGQUIT)
_POSTGRES: Mapping[str, Fault] = {
    "crash Postgres": _CRASH_POSTGRES,
    "restart Postgres": restart_postgres(signal.SIGINT),
}

FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "embedded": {**_EXECUTORS, **_POSTGRES, "kill the api and engine": kill("server")},
    "kafka": {
        **_EXECUTORS,
        **_POSTGRES,
        "kill the engine": kill("engine"),
        "kill the api": kill("api"),
        "crash the broker": crash_broker,
    },
}

_MORE: Mapping[str, Fault] = {
    "kill Postgres": restart_postgres(signal.SIGKILL),
    "kill one of Postgres' processes": kill_backend,
    "Postgres is away": database_away,
    "pause executor-1": pause("executor-1"),
    "stop executor-2": kill("executor-2", signal.SIGTERM),
    "kill both executors": together(kill("executor-1"), kill("executor-2")),
    "crash Postgres, kill executor-1": together(_CRASH_POSTGRES, kill("executor-1")),
}

ALL_FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "embedded": {
        **FAULTS["embedded"],
        **_MORE,
        "pause the api and engine": pause("server"),
        "crash Postgres, kill the api and engine": together(_CRASH_POSTGRES, kill("server")),
    },
    "kafka": {
        **FAULTS["kafka"],
        **_MORE,
        "restart the broker": restart_broker,
        "pause the engine": pause("engine"),
        "pause the api": pause("api"),
        "crash Postgres, kill the engine": together(_CRASH_POSTGRES, kill("engine")),
        "crash the broker, kill the engine": together(crash_broker, kill("engine")),
        "crash the broker, kill executor-2": together(crash_broker, kill("executor-2")),
        "kill a second engine": second_engine(),
        "stop a second engine": second_engine(end=signal.SIGTERM),
        "a second engine, and pause the first": second_engine(pause("engine")),
        "a second engine, and kill the first": second_engine(kill("engine")),
    },
}
