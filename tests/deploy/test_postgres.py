"""The embedded Postgres starts, ends with its parent, and comes back after everything that can happen to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.waiting import eventually
from threadlog.deploy.postgres import EmbeddedPostgres, PostgresFailed, running_uri, temporary_postgres

pytestmark = pytest.mark.server


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with temporary_postgres() as running:
        yield running


async def ask(uri: str, question: str) -> object:
    connection = await asyncpg.connect(uri)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_what_is_committed_is_there_after_a_kill_9(server: EmbeddedPostgres) -> None:
    await ask(server.uri, "CREATE TABLE kept AS SELECT 42 AS n")
    server.kill()
    server.start()
    assert await ask(server.uri, "SELECT n FROM kept") == 42


async def test_a_restart_keeps_the_address_and_the_data(server: EmbeddedPostgres) -> None:
    uri, pid = server.uri, server.pid
    await ask(uri, "CREATE TABLE kept AS SELECT 42 AS n")
    server.restart()
    assert (server.uri, server.pid) != (uri, pid)
    assert server.uri == uri
    assert await ask(uri, "SELECT n FROM kept") == 42


async def test_commits_wait_for_the_disk_and_nobody_listens_on_the_network(server: EmbeddedPostgres) -> None:
    assert await ask(server.uri, "SHOW fsync") == "on"
    assert await ask(server.uri, "SHOW synchronous_commit") == "on"
    assert await ask(server.uri, "SHOW listen_addresses") == ""


def test_a_second_user_of_the_folder_is_told_who_has_it(server: EmbeddedPostgres) -> None:
    with pytest.raises(PostgresFailed, match=f"in use by process {os.getpid()}: stop it, or choose another folder"):
        EmbeddedPostgres(server.folder).start()
    assert server.pid is not None


async def test_a_stale_pid_file_that_names_a_living_process_does_not_matter(server: EmbeddedPostgres) -> None:
    server.kill()
    lines = (server.folder / "postmaster.pid").read_text().split("\n")
    (server.folder / "postmaster.pid").write_text("\n".join([str(os.getppid()), *lines[1:]]))
    server.start()
    assert await ask(server.uri, "SELECT 1") == 1


def test_another_version_is_refused_with_a_way_out(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.folder / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresFailed, match=r"written by PostgreSQL 16.*DATABASE_URI"):
        server.start()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("do not lose")
    with pytest.raises(PostgresFailed, match="holds files but no database"):
        EmbeddedPostgres(tmp_path / "postgres").start()
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "do not lose"


def test_a_server_that_cannot_start_shows_what_it_said(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.folder / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresFailed, match="no_such_setting"):
        server.start()
    assert server.pid is None


async def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 30) / "postgres")
    try:
        server.start()
        assert await ask(server.uri, "SELECT 1") == 1
        assert running_uri(server.folder) == server.uri
    finally:
        server.stop()
    assert running_uri(server.folder) is None


async def test_the_server_ends_with_a_killed_parent_and_the_next_start_takes_over(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    script = (
        "import sys, signal; from pathlib import Path; from threadlog.deploy.postgres import EmbeddedPostgres;"
        f"s = EmbeddedPostgres(Path({str(folder)!r})); s.start(); print(s.pid, flush=True); signal.pause()"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    orphan = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        # Nobody may have waited for it yet, now that its parent is gone: then it is a zombie.
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert await ask(server.uri, "SELECT 1") == 1
    finally:
        server.stop()


async def test_a_crashed_backend_does_not_end_the_server(server: EmbeddedPostgres) -> None:
    victim = await asyncpg.connect(server.uri)
    os.kill(victim.get_server_pid(), signal.SIGKILL)
    await eventually(lambda: ask(server.uri, "SELECT 1"), passing=(OSError, asyncpg.PostgresError))
    victim.terminate()
