"""The cluster for tests and development itself: what it says when it can't run, and that it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kafka_fixture import require_kafka
from threadlog.deploy.kafka import KafkaCluster, KafkaUnavailable, available, jars

pytestmark = pytest.mark.server


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on its search path and nothing in its cache; answers the folder that is the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("THREADLOG_KAFKA_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    jars.java.cache_clear()
    yield tmp_path
    jars.java.cache_clear()


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_java_it_says_what_to_install(bare_machine: Path) -> None:
    can, why = available()
    assert not can
    assert "no `java`" in why and "17" in why


def test_an_old_java_is_named(bare_machine: Path) -> None:
    command(bare_machine, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    can, why = available()
    assert not can
    assert "is Java 11" in why and "needs 17" in why


def test_without_maven_it_says_what_to_install(bare_machine: Path) -> None:
    command(bare_machine, "java", "echo 'openjdk version \"17.0.2\"' >&2")
    can, why = available()
    assert not can
    assert "no `mvn`" in why and "THREADLOG_KAFKA_DIR" in why
    with pytest.raises(KafkaUnavailable, match="no `mvn`"):
        KafkaCluster(directory=bare_machine / "data").start()


def test_what_maven_says_is_passed_on_and_nothing_half_fetched_stays(bare_machine: Path) -> None:
    command(bare_machine, "java", "echo 'openjdk version \"21\"' >&2")
    command(bare_machine, "mvn", "echo '[ERROR] repo.example: unknown host'; exit 1")
    can, why = available()
    assert not can
    assert "unknown host" in why
    assert not (bare_machine / "cache").exists()


def test_the_command_line_fails_with_one_line(bare_machine: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "threadlog.deploy.kafka"],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no `java`")
    assert done.stderr.count("\n") == 1


def test_other_numbers_of_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 nodes"):
        KafkaCluster(2)


@pytest.mark.kafka
def test_a_stopped_cluster_leaves_no_process_and_no_temporary_folder() -> None:
    require_kafka()
    with KafkaCluster() as cluster:
        (pid,) = cluster.pids.values()
        folder = cluster.log_file().parent
        assert folder.exists() and psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


@pytest.mark.kafka
def test_data_in_a_folder_of_ones_own_stays(tmp_path: Path) -> None:
    require_kafka()
    with KafkaCluster(directory=tmp_path) as cluster:
        bootstrap = cluster.bootstrap
    assert bootstrap.startswith("127.0.0.1:")
    identity = (tmp_path / "node-1" / "meta.properties").read_text()
    with KafkaCluster(directory=tmp_path):
        assert (tmp_path / "node-1" / "meta.properties").read_text() == identity


@pytest.mark.kafka
def test_the_command_line_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    require_kafka()
    process = subprocess.Popen([sys.executable, "-m", "threadlog.deploy.kafka"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:")
        (node,) = psutil.Process(process.pid).children()
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 0
    assert not node.is_running()
