"""What an idle server holds: each process of it has imported, and keeps connected, only what it needs to be ready.

Memory itself is measured by `python -m tests.benchmarks --only idle`; here is what made it grow.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.servers import Server
from tests.waiting import eventually

pytestmark = pytest.mark.server

# Each takes megabytes; whatever needs one imports it when it is asked for.
RARE = {
    "rich",
    "pygments",
    "jsonschema",
    "faust",
    "aiokafka",
    "mcp",
    "a2a",
    "fastapi",
    "starlette",
    "numpy",
    "watchfiles",
}
OF_GRAPHS = {"langgraph", "langchain_core", "langsmith", "requests", "httpx", "opentelemetry"}
# A process' native modules are files that it has mapped, so they can be seen from outside.
NATIVE = ("asyncpg", "aiohttp", "uvloop", "orjson", "zstandard", "ormsgpack", "xxhash", "uuid_utils")

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph
builder = StateGraph(MessagesState)
builder.add_node("node", lambda state: {})
builder.add_edge(START, "node")
graph = builder.compile()
"""


def imported(code: str) -> set[str]:
    """The packages that a new interpreter has after this code."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def native(pid: int) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {package for package in NATIVE if f"/site-packages/{package}/" in maps}


def test_the_api_and_engine_import_neither_graphs_nor_what_is_rarely_used() -> None:
    code = (
        "from threadlog.deploy.supervise import fork_server\n"
        "fork_server.import_for('api-and-engine')\n"
        "import threadlog.deploy.compose.api_engine"
    )
    found = imported(code)
    assert {"aiohttp", "asyncpg"} <= found
    assert found & (RARE | OF_GRAPHS) == set()


def test_executors_import_nothing_that_is_rarely_used() -> None:
    found = imported("from threadlog.deploy.supervise import fork_server; fork_server.import_for('executor')")
    assert {"langgraph", "httpx"} <= found
    assert found & RARE == set()


def test_what_executors_do_without_can_still_be_imported_by_applications() -> None:
    code = (
        "from threadlog.deploy.supervise import fork_server; fork_server.import_for('executor')\n"
        "import httpx._main, rich"
    )
    assert "rich" in imported(code)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_idle_server_holds_what_it_needs(tmp_path: Path, up: Callable[..., Server]) -> None:
    (tmp_path / "agent.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}}))
    server = await asyncio.to_thread(up, tmp_path / "langgraph.json", executors=1)
    pids = server.pids
    assert native(server.process.pid) == set(), "the supervisor needs no packages with native code but pydantic's"
    assert "xxhash" not in native(pids["server"]), "LangSmith is for graphs"
    assert "asyncpg" in native(pids["server"])

    # What only the start needed is closed: connections that announced terms and registered graphs.
    connection = await asyncpg.connect(server.database_uri)
    try:
        appenders = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE 'SELECT log_append%' AND application_name NOT LIKE 'threadlog-%'"
        )
        await eventually(lambda: connection.fetchval(appenders), lambda count: count == 0)
    finally:
        await connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_idle_server_is_seldom_awake(tmp_path: Path, up: Callable[..., Server]) -> None:
    """Each wake-up costs a fraction of a millisecond, each statement up to one: more than a percent of a core soon."""
    (tmp_path / "agent.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": {"a": "./agent.py:graph"}}))
    server = await asyncio.to_thread(up, tmp_path / "langgraph.json", executors=1)
    connection = await asyncpg.connect(server.database_uri)
    try:

        async def per_second() -> dict[str, float]:
            """Transactions of the database, and how often each process has gone to sleep."""
            pids = {"supervisor": server.process.pid, **server.pids}
            begun, before = time.monotonic(), await counts(pids)
            await asyncio.sleep(3)
            after, seconds = await counts(pids), time.monotonic() - begun
            return {name: (after[name] - before[name]) / seconds for name in after}

        async def counts(pids: dict[str, int]) -> dict[str, int]:
            transactions = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            return {"database": await connection.fetchval(transactions), **{n: sleeps(pid) for n, pid in pids.items()}}

        most = {"database": 4.0, "supervisor": 3.0, "fork-server": 0.5, "server": 7.0, "executor-1": 8.0}
        await eventually(per_second, lambda seen: all(seen[name] < most[name] for name in most))
    finally:
        await connection.close()


def sleeps(pid: int) -> int:
    """How often the threads of the process have begun to wait."""
    status = [task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(found) for text in status for found in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M))
