"""The server that pages share which start none of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import servers
from tests.docs.pages import BadPage, starts_servers
from tests.docs.reader import APP


@pytest.fixture(scope="session")
def docs_server(start_server: Callable[..., servers.Server]) -> Iterator[servers.Server]:
    running = start_server(APP / "langgraph.json", executors=1)
    yield running
    running.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pages on the shared server stay with one worker of pytest-xdist: another would have to start its own."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("docs-site"))
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if "page" in params and "mode" in params and not _has_its_own(params["page"]):
            item.add_marker(pytest.mark.xdist_group(f"docs-{params['mode']}"))


def _has_its_own(page: object) -> bool:
    try:
        return starts_servers(page)
    except BadPage:
        return True
