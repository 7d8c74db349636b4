"""GET /prices: what tokens of models cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.api_harness import ApiHarness, api_harness
from threadlog.api.settings import ApiSettings
from threadlog.deploy.compose.api_engine import api_settings
from threadlog.deploy.settings import Settings
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.projections.derived.prices import PriceTable


async def test_prices_are_those_of_the_file_in_its_order(database: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"b-*": {"input": 3, "output": 15}, "a": {"input": 1.25, "output": 10, "cache_read": 0.125}}')
    async with api_harness(database, ApiSettings(prices=PriceTable.load(file))) as api:
        assert await api.call("GET", "/prices") == {
            "prices": [
                {"model": "b-*", "input": 3.0, "output": 15.0, "cache_read": 3.0},
                {"model": "a", "input": 1.25, "output": 10.0, "cache_read": 0.125},
            ]
        }


async def test_a_server_without_prices_has_none(api: ApiHarness) -> None:
    assert await api.call("GET", "/prices") == {"prices": []}


def test_a_file_that_is_none_is_logged_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "prices.json"
    file.write_text("[]")
    settings = Settings(THREADLOG_PRICES=str(file))  # type: ignore[call-arg]
    app = LanggraphJson(path=tmp_path / "langgraph.json", graphs={})  # type: ignore[call-arg]
    assert list(api_settings(settings, app).prices) == []
    assert "THREADLOG_PRICES" in caplog.text
