"""A real Apache Kafka for tests: one node per test session, shared by the workers of pytest-xdist.

Registered by tests/conftest.py. A test that asks for `kafka_bootstrap` is skipped where Java or Maven Central are
missing, with the reason in the summary; under `CI=true` it fails instead. Tests that stop brokers start their own.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from threadlog.deploy.kafka import available

_ANNOUNCED = "KAFKA_BOOTSTRAP_SERVERS="
_keepers: list[subprocess.Popen[str]] = []  # referred to until the end: they outlive the test that started them


def require_kafka() -> None:
    """Skips the test if Apache Kafka can't be started here; under CI=true that is a failure."""
    can, why = available()
    if not can:
        if os.environ.get("CI") == "true":
            pytest.fail(f"under CI=true the Kafka tests must run: {why}", pytrace=False)
        pytest.skip(f"no Apache Kafka: {why}")


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the session's node. Use topics of your own (`kafka_prefix`) and leave the node alone."""
    require_kafka()
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    with _shared_node(folder / "kafka") as bootstrap:
        yield bootstrap


@pytest.fixture
def kafka_prefix() -> str:
    """A prefix for topics that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}."


@contextmanager
def _shared_node(folder: Path) -> Iterator[str]:
    """The node runs in a process of its own, which ends when nobody holds a lock on the file `users` any more.

    The kernel releases the locks of a killed worker, so none is left behind.
    """
    folder.mkdir(exist_ok=True)
    address = folder / "address"
    with (folder / "users").open("a") as users:
        with _exclusively(folder / "starting"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not address.exists():
                address.write_text(_start(folder))
        yield address.read_text()
        with _exclusively(folder / "starting"):
            fcntl.flock(users, fcntl.LOCK_UN)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others still use it
            else:
                address.unlink()


def _start(folder: Path) -> str:
    log = folder / "log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "threadlog.deploy.kafka", "--while-locked", str(folder / "users")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # it ends by itself, not by a Ctrl-C at the tests
        )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.startswith(_ANNOUNCED):
                _keepers.append(process)
                return line.removeprefix(_ANNOUNCED).strip()
    pytest.fail(f"Apache Kafka did not start:\n{log.read_text()[-2000:]}", pytrace=False)


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
