"""Contract statement 184: with all slots busy the most urgent waiting run starts next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph_sdk import get_client

from tests.installed import needs
from tests.servers import Server

from .conftest import APP
from .gate import Gate
from .waiting import ended


@pytest.mark.contract(184)
@pytest.mark.star
@needs("langgraph-sdk", "0.4.12")
async def test_the_most_urgent_run_starts_next_and_groups_take_turns(
    own_server: Callable[..., Server], gate: Gate
) -> None:
    server = await asyncio.to_thread(own_server, APP / "priority.json", executors=1, env={"N_JOBS_PER_WORKER": "1"})
    async with get_client(url=server.url, api_key=None) as client:

        async def create(**metadata: Any) -> Any:
            thread = await client.threads.create(metadata=metadata)
            return await client.runs.create(thread["thread_id"], "gated", input=gate.input)

        held = await create()
        await gate.entered(held["run_id"])
        late = [await create(urgency=5) for _ in range(2)]
        many = [await create(group="many", urgency=0) for _ in range(3)]
        few = await create(group="few", urgency=0)
        urgent = await create(urgency=-5)
        gate.open()
        runs = [held, *late, *many, few, urgent]
        for run in runs:
            assert (await ended(client, run["thread_id"], run["run_id"]))["status"] == "success"
        names = {run["run_id"]: name for run, name in zip(runs, ["h", "l", "l", "m", "m", "m", "f", "u"], strict=True)}
        order = [names[line.split()[1]] for line in gate.journal() if line.startswith("enter ")]
        assert "".join(order) in ("hufmmmll", "humfmmll")

        # Asked once per thread: what it would say now is out of range.
        await client.threads.update(urgent["thread_id"], metadata={"urgency": 9})
        await client.runs.wait(urgent["thread_id"], "gated", input=gate.input)
        thread = await client.threads.create(metadata={"urgency": 9})
        with pytest.raises(Exception, match="from -5 to 5"):
            await client.runs.create(thread["thread_id"], "gated", input=gate.input)
        assert await client.runs.list(thread["thread_id"]) == []
