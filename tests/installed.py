"""Marks for tests of what only newer versions of LangGraph have: `make test-lowest` runs the tests with the oldest."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version


def has(package: str, minimum: str) -> bool:
    """Whether the installed version of `package` is at least `minimum`."""
    return Version(version(package)) >= Version(minimum)


def needs(package: str, minimum: str) -> pytest.MarkDecorator:
    """A mark that skips a test where `package` is older."""
    return pytest.mark.skipif(not has(package, minimum), reason=f"{package} {version(package)} < {minimum}")


delta_channels = needs("langgraph", "1.2")
server_runtime = needs("langgraph-sdk", "0.3.5")
bulk_client = needs("langgraph-sdk", "0.3.6")  # whose client has cancel_many, prune and delete_threads
