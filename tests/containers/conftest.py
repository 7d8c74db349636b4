"""One Docker Engine for all tests of containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.engine import Engine, NoEngine, docker_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        with docker_engine() as found:
            yield found
    except NoEngine as why:
        pytest.skip(str(why))
