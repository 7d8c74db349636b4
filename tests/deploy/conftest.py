"""`up`: embedded servers for one test, each a new interpreter: these tests are about processes and what they import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.servers import Server


@pytest.fixture
def up() -> Iterator[Callable[..., Server]]:
    """Starts embedded servers for one test."""
    started: list[Server] = []

    def start(config: Path, **options: object) -> Server:
        started.append(servers.start(config, fresh=True, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.stop()
