"""`pytest` in this folder tests the agent; docs/testing.md tells with what."""

from pathlib import Path

import pytest

pytest_plugins = ["threadlog.testing.fixtures"]


@pytest.fixture(scope="session")
def threadlog_config() -> Path:
    return Path(__file__).parent / "langgraph.json"
