"""The snippet of docs/crons.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from langgraph_sdk.client import LangGraphClient

from tests.installed import needs

PAGE = Path(__file__).parents[2] / "docs" / "crons.md"


@needs("langgraph-sdk", "0.3")
async def test_the_snippet_runs(client: LangGraphClient, thread_id: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet.replace('"agent"', '"noop"'), names)
    (cron,) = await names["every_morning"](client, thread_id)
    assert cron["enabled"] is False and cron["timezone"] == "Europe/Berlin" and cron["next_run_date"] is None
    assert await client.crons.count(thread_id=thread_id) == 0
