"""Diagnosis, `threadlog doctor`: checks what `threadlog up` depends on, and advises on what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import asyncpg
import click

from threadlog.deploy import extras
from threadlog.deploy.compose.encryption import check_keys, wrapper_of
from threadlog.deploy.compose.environment import apply
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.postgres import MAJOR_VERSION, EmbeddedPostgres, PostgresFailed, binaries, running_uri
from threadlog.deploy.settings import BadSettings, Settings, without_password
from threadlog.engine.encryption.wrapping import WithHandlers
from threadlog.engine.postgres.errors import FAILED
from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json

_IMPORT_SECONDS = 120
_VERSIONS = ("threadlog", "langgraph", "langgraph-sdk", "langgraph-checkpoint", "langchain-core", "aiokafka", "asyncpg")


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` None: worth knowing, neither good nor bad. `advice`: what to do."""

    ok: bool | None
    what: str
    advice: str = ""


async def examine(given: dict[str, Any]) -> int:
    """Print the findings; 0 when nothing is in the way of `threadlog up`."""
    bad = 0
    async for finding in findings(given):
        mark = {True: "ok  ", False: "BAD ", None: "    "}[finding.ok]
        click.echo(f"{mark} {finding.what}")
        if finding.advice:
            click.echo(f"       → {finding.advice}")
        bad += finding.ok is False
    click.echo()
    click.echo("Everything is in place." if not bad else f"{bad} of these stand in the way of `threadlog up`.")
    return 1 if bad else 0


async def findings(given: dict[str, Any]) -> AsyncIterator[Finding]:
    yield _python()
    yield _versions()
    app: LanggraphJson | None = None
    try:
        app = load_langgraph_json(given.get("config") or os.environ.get("THREADLOG_CONFIG") or "langgraph.json")
        apply(app)
        yield Finding(True, f"application {app.path}: {', '.join(app.graphs)}")
        for notice in app.notices:
            yield Finding(None, notice)
    except ConfigError as error:
        yield Finding(False, f"application: {error}")
    try:
        settings = Settings.load(**given)
    except BadSettings as error:
        yield Finding(False, f"settings: {error}", "docs/settings.md lists what each may be")
        return
    if app is not None:
        async for finding in _graphs(app):
            yield finding
    yield _port(settings)
    for extra in extras.needed(settings):
        found = f"extra {extra.name}: {extra.module}"
        yield Finding(True, f"{found} is installed") if extra.installed else Finding(False, extra.missing)
    if settings.database_uri:
        async for finding in database(settings, settings.database_uri):
            yield finding
    else:
        for finding in _embedded(settings) if extras.EMBEDDED.installed else ():
            yield finding
    if settings.kafka_bootstrap_servers and extras.KAFKA.installed:
        yield await _kafka(settings.kafka_bootstrap_servers)


async def database(settings: Settings, uri: str) -> AsyncIterator[Finding]:
    """Whether it answers, and what it holds can be decrypted."""
    yield (found := await _postgres(uri))
    if found.ok and (not settings.aes_key or extras.ENCRYPTION.installed):
        yield await _keys(settings, uri)


def _python() -> Finding:
    found = f"Python {platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(True, found)
    return Finding(False, found, "use Python 3.11, 3.12 or 3.13")


def _versions() -> Finding:
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return Finding(None, ", ".join(found))


_IMPORT = """
import json, sys
from threadlog.engine.executor.graphs.application import load_application
from threadlog.engine.executor.graphs.registration import described
from threadlog.engine.user_code.langgraph_json import ConfigError
def say(name, problem):
    print("\\x00" + json.dumps([name, problem]), flush=True)
try:
    graphs, loop = load_application(sys.argv[1])
    for graph in graphs.by_id.values():
        problem = loop.run_until_complete(described(graph)).get("error")
        say(graph.graph_id, problem if graph.error or not problem else f"graph {graph.graph_id}: {problem}")
except ConfigError as error:
    say(None, str(error))
"""


async def _graphs(app: LanggraphJson) -> AsyncIterator[Finding]:
    """Import and describe the graphs as an executor does, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _IMPORT, str(app.path),
        cwd=app.folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), _IMPORT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        yield Finding(False, f"graphs: importing them takes longer than {_IMPORT_SECONDS} s", "do less at import time")
        return
    for line in out.decode(errors="replace").splitlines():
        if line.startswith("\x00"):
            graph_id, problem = json.loads(line[1:])
            yield Finding(problem is None, problem or f"graph {graph_id} can be imported")
    if process.returncode != 0:
        yield Finding(False, f"graphs: importing them ended the process:\n{err.decode(errors='replace')[-2000:]}")


def _port(settings: Settings) -> Finding:
    if settings.port == 0:
        return Finding(True, "port: any free one")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            what = f"port {settings.port} on {settings.host}: {error.strerror}"
            return Finding(False, what, "stop the program that has it, or choose another with --port")
    return Finding(True, f"port {settings.port} on {settings.host} is free")


def _embedded(settings: Settings) -> list[Finding]:
    folder = settings.data_dir.absolute()
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        return [Finding(False, f"data folder {folder}: {place} is not writable", "choose another with --data-dir")]
    found = [Finding(True, f"data folder {folder}" + ("" if folder.exists() else " (will be made)"))]
    try:
        found.append(Finding(True, f"embedded PostgreSQL {MAJOR_VERSION} in {binaries()}"))
        EmbeddedPostgres(folder / "postgres").check()
    except PostgresFailed as error:
        found.append(Finding(False, f"embedded Postgres: {error}"))
    if running_uri(folder / "postgres"):
        found.append(Finding(None, f"a server runs over this data folder{_running(folder)}"))
    return found


def _running(folder: Path) -> str:
    try:
        status = json.loads((folder / "processes.json").read_text())
    except (OSError, ValueError):
        return ""
    return f": {status['url']}, " + ", ".join(f"{name} {pid}" for name, pid in status["processes"].items())


async def _postgres(uri: str) -> Finding:
    shown = without_password(uri)
    try:
        connection = await asyncpg.connect(uri, timeout=5)
    except FAILED as error:
        return Finding(False, f"Postgres {shown}: {error}", "start it, or correct DATABASE_URI")
    try:
        number = await connection.fetchval("SHOW server_version_num")
        if int(number) < 14_00_00:
            return Finding(False, f"Postgres {shown}: version {number}", "use PostgreSQL 14 or newer")
        return Finding(True, f"Postgres {shown} answers")
    finally:
        await connection.close()


async def _keys(settings: Settings, uri: str) -> Finding:
    try:
        wrapper, _ = await wrapper_of(settings)
        await check_keys(uri, wrapper)
    except (CannotRun, ConfigError) as error:
        return Finding(False, f"encryption: {error}")
    if isinstance(wrapper, WithHandlers):
        stored = "encrypted, with keys that the application's handlers encrypt"
    else:
        stored = "encrypted with LANGGRAPH_AES_KEY" if settings.aes_key else "readable: LANGGRAPH_AES_KEY is not set"
    return Finding(None, f"content of threads is stored {stored}")


async def _kafka(servers: str) -> Finding:
    from aiokafka.admin import AIOKafkaAdminClient

    client = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=5000)
    try:
        await client.start()
        cluster = await client.describe_cluster()
        return Finding(True, f"Kafka {servers}: {len(cluster['brokers'])} broker(s)")
    except Exception as error:
        return Finding(False, f"Kafka {servers}: {error}", "start it, or correct KAFKA_BOOTSTRAP_SERVERS")
    finally:
        await client.close()
