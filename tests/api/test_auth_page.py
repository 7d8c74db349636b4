"""docs/auth.md: what it shows works, and its table of accesses is that of the routes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.api.api_harness import api_harness
from tests.api.test_gate import of
from threadlog.api.app import ROUTES
from threadlog.api.auth.gate import Gate
from threadlog.api.settings import ApiSettings
from threadlog.deploy.compose.auth import load_auth
from threadlog.engine.user_code.langgraph_json import load

PAGE = (Path(__file__).parents[2] / "docs" / "auth.md").read_text()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """What the page's two snippets make."""
    (tmp_path / "langgraph.json").write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    (tmp_path / "auth.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1])
    (tmp_path / "agent.py").write_text("graph = None\n")
    application = load(tmp_path)
    return Gate(load_auth(application, application.auth), application.auth, token="t", studio=False)


async def test_the_snippet_keeps_users_apart(database: str, gate: Gate) -> None:
    async with api_harness(database, ApiSettings(security={}), gate=gate) as api:
        thread = await api.call("POST", "/threads", {}, **of("ann-secret"))
        assert thread["metadata"] == {"owner": "ann"}
        assert (await api.ask("GET", f"/threads/{thread['thread_id']}", **of("bob-secret")))[0] == 404
        assert await api.ask("POST", "/threads", {}, **of("guessed")) == (
            401,
            {"detail": "Send a token", "code": "unauthenticated"},
        )


def test_the_page_names_every_access_of_the_threads() -> None:
    accesses = {access for route in ROUTES for access in route.access or () if access.startswith("threads.")}
    assert [access for access in sorted(accesses) if f"`{access}`" not in PAGE] == []
    assert json.loads(re.search(r"\{\"cache_keys.*?\}", PAGE)[0])["cache_keys"] == ["authorization"]
