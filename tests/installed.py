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
task_tokens = needs("langgraph", "1.2.19")  # before, what a `@task` of a node said was a subgraph's
tool_writes = needs("langgraph", "1.2")  # whose tools have something to write with
server_runtime = needs("langgraph-sdk", "0.3.5")
event_client = needs("langgraph-sdk", "0.4.10")  # whose client has `threads.stream`
bulk_client = needs("langgraph-sdk", "0.3.6")  # whose client has cancel_many, prune and delete_threads
selecting_client = needs("langgraph-sdk", "0.4.13")  # whose client has `select` of states and histories
strict_client = needs("langgraph-sdk", "0.4.14")  # whose client has `strict_resume`
forks_older = needs("langgraph", "1.0.3")  # before, a fork had what the tasks after its checkpoint had written, too
named_tool_calls = needs("langchain-core", "1.1.2")  # whose callbacks say which tool call starts a tool
