"""Dry run of state migrations, `threadlog migrate --check`: what the application's functions make of every thread.

Reads the read models, calls the functions on the newest state of each thread that is not at the present version, and
writes nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import click
import orjson

from threadlog.deploy.compose.encryption import keyring_of
from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.compose.storage import database_ready
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings
from threadlog.engine.encryption.connection import opening
from threadlog.engine.executor.checkpointer import reader
from threadlog.engine.executor.checkpointer.stored_types import default_serializer
from threadlog.engine.executor.checkpointer.values import ValueLost, Values
from threadlog.engine.executor.graphs.application import load_application
from threadlog.engine.executor.graphs.loader import Graphs, LoadedGraph
from threadlog.engine.executor.state_migrations import VERSION, StateMigrationFailed, StateTooNew
from threadlog.engine.stored.value_refs import needed
from threadlog.engine.user_code import loopback
from threadlog.engine.user_code.langgraph_json import load
from threadlog.engine.user_code.migrations_section import FIRST_VERSION

_PAGE = 1000
_SHOWN = 20
# The newest root checkpoint of each thread, and those of subgraphs of threads that are in the middle of something.
_NEWEST = f"""
SELECT t.thread_id::text, (c.n).ns, (c.n).checkpoint_id, checkpoint_metadata(c.n) ->> 'graph_id' AS graph_id,
    coalesce(((c.n).checkpoint ->> '{VERSION}')::int, {FIRST_VERSION}) AS version
FROM (SELECT thread_id, status FROM threads WHERE thread_id > $1 ORDER BY thread_id LIMIT {_PAGE}) t
CROSS JOIN LATERAL (
    (SELECT n FROM checkpoints n WHERE n.thread_id = t.thread_id AND n.ns = '' ORDER BY n.checkpoint_id DESC LIMIT 1)
    UNION ALL
    SELECT n FROM checkpoints n WHERE n.thread_id = t.thread_id AND n.ns <> '' AND t.status <> 'idle'
        AND n.checkpoint_id = (
            SELECT max(m.checkpoint_id) FROM checkpoints m WHERE m.thread_id = n.thread_id AND m.ns = n.ns)
) c
ORDER BY t.thread_id, (c.n).ns
"""
_LAST = "SELECT max(thread_id::text) FROM (SELECT thread_id FROM threads WHERE thread_id > $1 ORDER BY 1 LIMIT $2) t"


@dataclass(frozen=True, slots=True)
class CheckedState:
    """One state of a thread and what the migrations make of it. `problem` None: it can be migrated."""

    graph_id: str
    thread_id: str
    ns: str
    checkpoint_id: str
    from_version: int
    to_version: int
    problem: str | None


def check(settings: Settings, config: Path, *, graph_ids: Sequence[str], as_json: bool) -> int:
    """Print the report; 0 when every state can be migrated, else 1. Loads the graphs, so without a running loop."""
    application = load(config)
    chosen = graph_ids or list(application.migrations)
    if not chosen:
        click.echo(f"{application.path} has no migrations.", err=True)
    if unknown := [name for name in chosen if name not in application.graphs]:
        raise CannotRun(f"{application.path} has no graph {unknown[0]}")
    loopback.install(api_url(settings, application))
    graphs, loop = load_application(config)
    for name in chosen:
        if (error := graphs.by_id[name].error) is not None:
            raise CannotRun(error)
    try:
        return loop.run_until_complete(_report(settings, graphs, chosen, as_json=as_json))
    finally:
        loop.close()


async def _report(settings: Settings, graphs: Graphs, chosen: Sequence[str], *, as_json: bool) -> int:
    counts: Counter[tuple[str, int, int]] = Counter()
    failed: list[CheckedState] = []
    failures: Counter[tuple[str, int, int]] = Counter()
    uri = settings.database_uri
    assert uri is not None
    async for state in checked_states(uri, graphs, chosen, settings):
        key = (state.graph_id, state.from_version, state.to_version)
        counts[key] += 1
        if state.problem is not None:
            failures[key] += 1
            if as_json or len(failed) < _SHOWN:
                failed.append(state)
    if as_json:
        rows = [
            {
                "graph_id": graph,
                "from_version": start,
                "to_version": to,
                "states": n,
                "failed": failures[graph, start, to],
            }
            for (graph, start, to), n in sorted(counts.items())
        ]
        click.echo(orjson.dumps({"states": rows, "problems": [asdict(state) for state in failed]}))
        return 1 if failures else 0
    click.echo(f"{'graph':<24} {'from':>5} {'to':>5} {'states':>9} {'failed':>9}")
    for (graph, start, to), n in sorted(counts.items()):
        click.echo(f"{graph:<24} {start:>5} {to:>5} {n:>9} {failures[graph, start, to]:>9}")
    for state in failed:
        where = f"thread {state.thread_id}" + (f" ({state.ns})" if state.ns else "")
        click.echo(f"{where}: {state.problem}")
    if (more := sum(failures.values()) - len(failed)) > 0:
        click.echo(f"and {more} more: --json has all")
    if not failures:
        click.echo("Every state can be migrated." if any(s != t for _, s, t in counts) else "Nothing to migrate.")
    return 1 if failures else 0


async def checked_states(
    uri: str, graphs: Graphs, chosen: Sequence[str], settings: Settings | None = None
) -> AsyncIterator[CheckedState]:
    """The newest state of every thread of these graphs, those at the present version included. `settings`: with the key
    that states are encrypted with."""
    await database_ready(uri, patience_seconds=2)
    async with (
        keyring_of(settings or Settings.load(), uri, name="migrate") as keyring,
        asyncpg.create_pool(uri, min_size=1, max_size=2, connection_class=opening(keyring)) as pool,
    ):
        if await pool.fetchval("SELECT to_regclass('checkpoints')") is None:
            raise CannotRun("this database was not used by threadlog yet: start a server on it first")
        total = await pool.fetchval("SELECT count(*) FROM threads")
        shown = click.progressbar(length=total, label="threads", file=sys.stderr) if sys.stderr.isatty() else None
        with shown or nullcontext():
            after = "00000000-0000-0000-0000-000000000000"
            while (last := await pool.fetchval(_LAST, after, _PAGE)) is not None:
                for row in await pool.fetch(_NEWEST, after):
                    if row["graph_id"] in chosen:
                        yield await _checked(pool, graphs.by_id[row["graph_id"]], row)
                after = last
                if shown is not None:
                    shown.update(_PAGE)


async def _checked(pool: asyncpg.Pool, graph: LoadedGraph, row: asyncpg.Record) -> CheckedState:
    problem = None
    if row["version"] != graph.migrations.present:
        try:
            problem = await _problem(pool, graph, row["thread_id"], row["ns"], row["checkpoint_id"])
        except (StateMigrationFailed, StateTooNew, ValueLost) as error:
            problem = str(error)
        except Exception as error:  # of the user's types, as they are made of what is stored
            problem = f"The state can't be read: {type(error).__name__}: {error}"
    return CheckedState(
        row["graph_id"], row["thread_id"], row["ns"], row["checkpoint_id"], row["version"], graph.migrations.present,
        problem,
    )  # fmt: skip


async def _problem(pool: asyncpg.Pool, graph: LoadedGraph, thread_id: str, ns: str, checkpoint_id: str) -> str | None:
    found = await reader.row(pool, thread_id, ns, checkpoint_id)
    if found is None or not graph.migrations.concern(ns, found.checkpoint, found.metadata):
        return None
    serde = default_serializer()
    values, data = Values(serde), await reader.blobs(pool, thread_id, needed(found.channels.values()))
    state: dict[str, Any] = reader.migrated(
        graph.migrations, found, {name: values.value(ref, data) for name, ref in found.channels.items()}
    )
    for name, value in state.items():
        try:
            serde.dumps_typed(value)
        except Exception as error:
            return f"The migrated state can't be stored: {name} is {type(value).__name__}: {error}"
    if graph.compiled is not None and not ns and (unknown := state.keys() - graph.compiled.channels.keys()):
        return f"The migrated state has {', '.join(sorted(unknown))}, which the graph has not."
    return None
