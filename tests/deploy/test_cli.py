"""What the command says when something is not as it should be: a sentence that says what to do, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import clean_environment

pytestmark = pytest.mark.server

GOOD = """
from langgraph.graph import START, StateGraph

g = StateGraph(dict)
g.add_node("n", lambda state: state)
g.add_edge(START, "n")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:g"}}')
    (tmp_path / "agent.py").write_text(GOOD)
    return tmp_path


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def threadlog(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "threadlog.deploy.cli", *arguments],
        cwd=folder,
        env={**clean_environment(), "THREADLOG_PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from threadlog.deploy.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'asyncpg', 'pydantic', 'aiohttp', 'langgraph', 'aiokafka', 'uvloop'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_up_without_a_langgraph_json_says_where_it_looked(tmp_path: Path) -> None:
    done = threadlog(tmp_path, "up")
    assert done.returncode != 0
    assert str(tmp_path / "langgraph.json") in done.stderr
    assert "--config" in done.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ('{"graphs": {}}', "name at least one graph"),
        ('{"graphs": {"agent": "./missing.py:g"}}', "missing.py does not exist"),
        ('{"graphs": {"agent": "agent.py"}}', "does not name an object"),
    ],
)
def test_up_with_a_bad_langgraph_json_names_what_is_wrong(app: Path, text: str, complaint: str) -> None:
    (app / "langgraph.json").write_text(text)
    done = threadlog(app, "up")
    assert done.returncode != 0
    assert complaint in done.stderr


def test_up_on_a_port_in_use_says_so_before_it_starts_anything(app: Path, busy_port: int) -> None:
    done = threadlog(app, "up", "--port", str(busy_port))
    assert done.returncode != 0
    assert f"port {busy_port} on 127.0.0.1 cannot be used" in done.stderr
    assert not (app / ".threadlog").exists()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("DATABASE_URI", "postgresql://ada:secret@127.0.0.1:1/db", "postgresql://ada:…@127.0.0.1:1/db does not answer"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", "no Kafka broker answers at 127.0.0.1:1"),
    ],
)
def test_up_with_a_service_that_is_away_says_so(app: Path, variable: str, value: str, complaint: str) -> None:
    done = threadlog(app, "up", **{variable: value})
    assert done.returncode != 0
    assert complaint in done.stderr


def test_a_bad_setting_is_named(app: Path) -> None:
    done = threadlog(app, "up", N_JOBS_PER_WORKER="many")
    assert "N_JOBS_PER_WORKER=many" in done.stderr


@pytest.mark.parametrize("command", ["api", "engine", "executor"])
def test_the_parts_need_a_database(app: Path, command: str) -> None:
    done = threadlog(app, command)
    assert done.returncode != 0
    assert "DATABASE_URI is not set" in done.stderr


def test_events_without_a_server_says_how_to_get_one(app: Path) -> None:
    done = threadlog(app, "events")
    assert done.returncode == 1
    assert "no server runs over" in done.stderr


def test_events_with_a_database_that_is_away_says_so(app: Path) -> None:
    done = threadlog(app, "events", DATABASE_URI="postgresql://ada:secret@127.0.0.1:1/db")
    assert done.returncode == 1
    assert "postgresql://ada:…@127.0.0.1:1/db does not answer" in done.stderr
    assert "secret" not in done.stderr


def test_doctor_finds_nothing_wrong_with_a_good_application(app: Path) -> None:
    done = threadlog(app, "doctor")
    assert done.returncode == 0, done.stdout
    assert "graph agent can be imported" in done.stdout
    assert "Everything is in place." in done.stdout


def test_doctor_names_file_and_line_of_a_broken_graph_and_goes_on(app: Path, busy_port: int) -> None:
    (app / "langgraph.json").write_text('{"graphs": {"good": "./agent.py:g", "bad": "./broken.py:g"}}')
    (app / "broken.py").write_text("import os\n\nraise ValueError('not today')\n")
    done = threadlog(app, "doctor", THREADLOG_PORT=str(busy_port), DATABASE_URI="postgresql://127.0.0.1:1/db")
    assert done.returncode == 1
    assert "graph good can be imported" in done.stdout
    assert f"ValueError: not today ({app / 'broken.py'}:3)" in done.stdout
    assert f"BAD  port {busy_port}" in done.stdout
    assert "BAD  Postgres" in done.stdout


def test_doctor_refuses_a_key_of_another_size_and_does_not_show_it(app: Path) -> None:
    done = threadlog(app, "doctor", LANGGRAPH_AES_KEY="a-secret")
    assert done.returncode == 1 and "16, 24 or 32 bytes" in done.stdout and "a-secret" not in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_sees_a_folder_it_cannot_write(app: Path) -> None:
    (app / "closed").mkdir(mode=0o500)
    done = threadlog(app, "doctor", "--data-dir", str(app / "closed" / "data"))
    assert "is not writable" in done.stdout
