"""Test tiers: marks each test with the one tier that says what it needs, so that a part of the suite can be run alone.

| tier         | the test                                                                              |
|--------------|---------------------------------------------------------------------------------------|
| `unit`       | needs nothing but this process                                                        |
| `simulation` | runs the engine under a seeded scheduler (tests/simulation), in this process          |
| `db`         | works on the session's Postgres, otherwise in this process                            |
| `server`     | starts processes: a server, a Kafka node, a Postgres of its own, a command            |

The tier follows from the test's fixtures and folder (`tier_of`). A test that starts processes without one of the
fixtures named here is marked by hand: `pytestmark = pytest.mark.server`. While a test of another tier runs, starting a
process raises.

Registered by tests/conftest.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

TIERS = {
    "unit": "needs nothing but this process",
    "simulation": "runs the engine under a seeded scheduler",
    "db": "needs the session's Postgres",
    "server": "starts processes: servers, Kafka, commands",
}
# Fixtures that start processes, and those that give the session's Postgres. Names of fixtures that a parametrized
# fixture asks for later (`system[in_kafka]` in tests/log) count as well.
SERVER_FIXTURES = frozenset({"start_server", "own_server", "mode", "up", "kafka_bootstrap", "in_kafka"})
DB_FIXTURES = frozenset({"postgres_uri", "in_postgres"})
SERVER_MARKERS = frozenset({"kafka", "chaos", "js", "containers"})
DURATIONS_SHOWN_IN_CI = 20

# https://docs.python.org/3/library/audit_events.html
_STARTS_A_PROCESS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"})


class ProcessGuard:
    """Raises where a process is started while `test` is set: the id of the test that runs, unless it may start some."""

    def __init__(self) -> None:
        self.test: str | None = None
        sys.addaudithook(self._hook)  # can't be removed: one per session

    def _hook(self, event: str, _: object) -> None:
        if event in _STARTS_A_PROCESS and self.test is not None:
            # An OSError, as of a machine that refuses: libraries that can do without the process go on.
            raise PermissionError(
                f"{self.test} starts a process ({event}): mark it pytest.mark.server (tests/tiers.py)"
            )


def tier_of(item: pytest.Item) -> str:
    """The tier of a test: the one it is marked with, else what its fixtures need, else by its folder.

    Raises `pytest.UsageError` if it is marked with several.
    """
    marked = {mark.name for mark in item.iter_markers() if mark.name in TIERS}
    if len(marked) > 1:
        raise pytest.UsageError(f"{item.nodeid} has more than one tier: {', '.join(sorted(marked))}")
    if marked:
        return marked.pop()
    callspec = getattr(item, "callspec", None)
    params = () if callspec is None else callspec.params.values()
    needs = {*getattr(item, "fixturenames", ()), *(param for param in params if isinstance(param, str))}
    if needs & SERVER_FIXTURES or any(mark.name in SERVER_MARKERS for mark in item.iter_markers()):
        return "server"
    if needs & DB_FIXTURES:
        return "db"
    return "simulation" if item.path.parent.name == "simulation" else "unit"


_GUARD = pytest.StashKey[ProcessGuard]()


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in TIERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.stash[_GUARD] = ProcessGuard()
    if os.environ.get("CI") == "true" and config.option.durations is None:
        config.option.durations = DURATIONS_SHOWN_IN_CI


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = tier_of(item)
        if item.get_closest_marker(tier) is None:
            item.add_marker(tier)


@contextmanager
def _guarded(item: pytest.Item, *, unless: frozenset[str]) -> Iterator[None]:
    guard = item.config.stash[_GUARD]
    guard.test = None if tier_of(item) in unless else item.nodeid
    try:
        yield
    finally:
        guard.test = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _guarded(
        item, unless=frozenset({"server", "db"})
    ):  # the first test to ask for the session's Postgres starts it
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _guarded(item, unless=frozenset({"server"})):
        return (yield)
