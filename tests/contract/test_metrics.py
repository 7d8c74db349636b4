"""Metrics of a running server, in both modes."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.test_monitoring import PREFIX, gauges_of_the_api

pytestmark = pytest.mark.star


async def test_the_gauges_of_dashboard_and_alerts_are_there(http: httpx.AsyncClient) -> None:
    asked = gauges_of_the_api()
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    gauges = {family.name.removeprefix(PREFIX) for family in families if family.type == "gauge"}
    assert {"num_pending_runs", "pending_unblocked_runs_wait_time_max_secs"} <= asked <= gauges
