"""Fixtures for pytest: `pytest_plugins = ["threadlog.testing.fixtures"]` in the tests' top `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from threadlog.testing.server import LocalServer, serve


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "threadlog_config",
        "the langgraph.json that threadlog_server serves, relative to pytest's root folder",
        default="langgraph.json",
    )


@pytest.fixture(scope="session")
def threadlog_config(pytestconfig: pytest.Config) -> Path:
    """The application's file: the ini option `threadlog_config`. Define a fixture of this name to choose another."""
    return pytestconfig.rootpath / str(pytestconfig.getini("threadlog_config"))


@pytest.fixture
def threadlog_server(threadlog_config: Path) -> Iterator[LocalServer]:
    """A server of the application, with nothing in it."""
    with serve(threadlog_config) as server:
        yield server
