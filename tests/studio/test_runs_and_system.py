"""The pages of runs and of the system, in a real browser against a real server."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.contract.gate import Gate
from tests.servers import Server
from tests.studio.conftest import WAIT_MS, Open
from tests.subscribers.test_derive import GRAPH
from tests.waiting import eventually

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)


async def run_on_thread(api: LangGraphClient, graph: str, given: Any, **more: Any) -> str:
    thread = (await api.threads.create())["thread_id"]
    await api.runs.wait(thread, graph, input=given, raise_error=False, **more)
    return thread


def rows(page: Page, table: str) -> Any:
    """Without the head."""
    return page.get_by_role("table", name=table, exact=True).get_by_role("row").filter(has=page.get_by_role("cell"))


async def test_runs_are_searched_filtered_and_cancelled(
    open_page: Open, url: str, api: LangGraphClient, tmp_path: Path
) -> None:
    word = uuid.uuid4().hex
    metadata = {"word": word}
    done = await run_on_thread(api, "noop", {"items": []}, metadata=metadata)
    await run_on_thread(api, "flaky", {"items": [], "n": 0}, metadata=metadata)
    gate = Gate(tmp_path)
    held = [
        await api.runs.create(
            (await api.threads.create())["thread_id"],
            "gated",
            input=gate.input,
            metadata=metadata,
        )
        for _ in range(3)
    ]
    page = await open_page(url, "runs")
    found, count = rows(page, "Runs"), page.get_by_label("Runs found")
    await page.get_by_label("Search").fill(json.dumps(metadata))
    await expect(count).to_have_text("5")
    await expect(found).to_have_count(5)
    await page.get_by_label("Status").select_option("failed")
    await expect(found).to_have_count(1)
    await expect(found).to_contain_text("ValueError: kaboom")
    await found.get_by_role("button", name="as JSON").click()
    await expect(page.get_by_role("dialog")).to_contain_text("kwargs")
    await page.get_by_role("dialog").get_by_role("button", name="Close").click()
    await page.get_by_label("Status").select_option("any")
    await page.get_by_label("Assistant").select_option("g:noop")
    await expect(found).to_have_count(1)
    await expect(page.get_by_role("link", name=re.compile(done[:13]))).to_be_visible()
    await page.get_by_label("Assistant").select_option("")
    await page.get_by_label("Created").select_option("the last hour")
    await expect(found).to_have_count(5)

    await page.get_by_label("Search").fill(done)
    await expect(found).to_have_count(1)
    await page.get_by_label("Search").fill(held[0]["run_id"])
    await expect(found).to_have_count(1)
    await expect(found).to_contain_text("gated")
    await page.get_by_label("Search").fill("no such thing")
    await expect(page.get_by_role("alert")).to_contain_text("the id of a run or a thread")
    await expect(page.get_by_role("button", name="Cancel all that match")).to_be_disabled()

    await page.get_by_label("Search").fill(json.dumps(metadata))
    await expect(page.get_by_role("alert")).to_have_count(0)
    await expect(found).to_have_count(5)
    await page.get_by_label(f"Choose {held[0]['run_id']}").check()
    await page.get_by_role("button", name="Cancel 1").click()
    await page.get_by_label("Status").select_option("interrupted")
    await expect(found).to_have_count(1)
    await page.get_by_label("Status").select_option("success")
    await expect(found).to_have_count(1)
    await page.get_by_role("button", name="Cancel all that match").click()
    await expect(page.get_by_role("alert")).to_contain_text("None of these runs is pending or running")
    await page.get_by_label("Status").select_option("any")
    await expect(found).to_have_count(5)
    await page.get_by_role("button", name="Cancel all that match").click()
    await page.get_by_label("Status").select_option("interrupted")
    await expect(found).to_have_count(3)
    await found.first.get_by_role("link").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Run")


async def test_the_end_of_a_page_brings_the_next_one(open_page: Open, url: str, api: LangGraphClient) -> None:
    word = uuid.uuid4().hex
    new: Any = [
        {"assistant_id": "noop", "input": {"items": []}, "metadata": {"w": word}, "on_completion": "keep"}
    ] * 230
    await api.runs.create_batch(new)
    page = await open_page(url, "runs")
    table = page.get_by_role("table", name="Runs", exact=True)
    await page.get_by_label("Search").fill(json.dumps({"w": word}))
    await expect(page.get_by_label("Runs found")).to_have_text("230")
    await expect(table).to_have_attribute("aria-rowcount", "200")
    await table.evaluate("table => table.scrollTo(0, table.scrollHeight)")
    await expect(table).to_have_attribute("aria-rowcount", "230")


async def test_the_system_shows_partitions_errors_and_webhooks(open_page: Open, url: str, api: LangGraphClient) -> None:
    failed = await run_on_thread(api, "flaky", {"items": [], "n": 0})
    await run_on_thread(api, "noop", {"items": []}, webhook="http://127.0.0.1:9/hook?token=of-the-hook")
    page = await open_page(url, "system")
    errors = rows(page, "Recent errors")
    await expect(errors.filter(has_text=failed[:13])).to_contain_text("ValueError: kaboom")
    hooks = rows(page, "Failed webhooks")
    await expect(hooks.filter(has_text="http://127.0.0.1:9/hook").first).to_be_visible()
    await expect(page.get_by_text("of-the-hook")).to_have_count(0)
    await expect(rows(page, "Partitions").first).to_contain_text("0")
    await expect(rows(page, "Executors").first).to_contain_text("noop")
    await expect(page.get_by_text("commands per second")).to_be_visible()
    await expect(page.locator(".tile").filter(has_text="commands per second").locator("b")).to_have_text(
        re.compile(r"\d")
    )
    await expect(page.get_by_role("region", name="Usage and cost")).to_contain_text("THREADLOG_DERIVE=true")


async def test_the_system_draws_usage_and_cost(
    open_page: Open, own_server: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "prices.json").write_text('{"gpt-*": {"input": 2, "output": 10}}')
    config = tmp_path / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"billed": "./graph.py:graph"}}')
    env = {"THREADLOG_DERIVE": "true", "THREADLOG_PRICES": str(tmp_path / "prices.json")}
    server = await asyncio.to_thread(own_server, config, env=env)
    async with get_client(url=server.url, api_key=None) as client:
        said = {"messages": [{"role": "user", "content": "hi"}]}
        await client.runs.wait(None, "billed", input=said, config={"tags": ["red"]})

        async def counted() -> Any:
            response = await client.http.client.get("/usage")
            return response.json().get("rows")

        await eventually(counted, bool, says=lambda: server.output)
    page = await open_page(server.url, "system")
    usage = page.get_by_role("region", name="Usage and cost")
    (row,) = [rows(page, "Usage")]
    await expect(row).to_contain_text("billed")
    for cell in ("1", "0 (0.0 %)", "1,000,010", "2.00"):
        await expect(row.get_by_role("cell").get_by_text(cell, exact=True).first).to_be_visible()
    for chart in ("Runs", "Tokens", "Cost"):
        await expect(
            usage.locator("figure").filter(has_text=chart).locator("svg rect[fill^='var(--series']")
        ).to_have_count(1)
    await page.get_by_label("Usage by").select_option("model")
    await expect(row).to_contain_text("gpt-5")
    await page.get_by_label("Usage by").select_option("tag")
    await expect(row).to_contain_text("red")
    await page.get_by_label("Time", exact=True).select_option("12 months")
    await expect(row).to_contain_text("red")
