"""The kit's own fixtures, on the session's Postgres: the tests of it start no process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from threadlog.testing import LocalServer, serve

Serve = Callable[..., LocalServer]


@pytest.fixture
def served(postgres_uri: str) -> Iterator[Serve]:
    """Starts servers of graphs by name: `served(agent=graph)`; they are stopped after the test."""
    with ExitStack() as servers:

        def start(**graphs: Any) -> LocalServer:
            return servers.enter_context(serve(graphs=graphs, database_uri=postgres_uri))

        yield start
