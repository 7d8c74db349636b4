"""The story of a run as a page of the Studio."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.contract.test_auth import APP as AUTH_APP
from tests.servers import Server
from tests.studio.conftest import WAIT_MS, Open, assert_accessible, thread_of

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)


def lines(page: Page) -> Any:
    return page.get_by_role("list", name="Story").get_by_role("listitem")


async def test_a_run_is_explained_and_each_line_leads_to_the_log(
    open_page: Open, url: str, api: LangGraphClient
) -> None:
    thread = await thread_of(api, "noop", {"items": ["given"]})
    (run,) = await api.runs.list(thread)
    page = await open_page(url, f"threads/{thread}")
    await page.get_by_role("link", name="Explain the last run").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(run["run_id"][:13])
    await expect(lines(page).first).to_contain_text("asks for graph noop")
    wrote = lines(page).filter(has_text="a wrote items")
    await expect(wrote).to_have_count(1)
    await page.get_by_label("Show").select_option("decisions")
    await expect(wrote).to_have_count(0)
    await expect(lines(page).last).to_contain_text("it ended, attempt 1")
    await page.get_by_label("Show").select_option("everything")

    await wrote.get_by_role("link", name=re.compile("in the log")).click()
    await expect(page.get_by_role("dialog", name="writes.saved")).to_contain_text('"items"')
    await page.go_back()
    await lines(page).filter(has_text="step 1 (loop)").get_by_role("link", name=re.compile("The state")).click()
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(page.get_by_label("Messages")).to_contain_text('"a"')
    await expect(page.get_by_label("Messages")).not_to_contain_text('"b"')


async def test_the_story_goes_on_while_the_run_does(
    open_page: Open, url: str, api: LangGraphClient, tmp_path: Path
) -> None:
    thread = (await api.threads.create(graph_id="ticker"))["thread_id"]
    run = await api.runs.create(thread, "ticker", input={"gate": str(tmp_path)})
    page = await open_page(url, f"threads/{thread}/runs/{run['run_id']}")
    await expect(page.get_by_text("it goes on")).to_be_visible()
    await expect(lines(page).filter(has_text="began on executor")).to_have_count(1)
    await api.runs.cancel(thread, run["run_id"], wait=True)
    await expect(lines(page).filter(has_text="a client cancelled it")).to_have_count(1)
    await expect(page.get_by_text("it goes on")).to_have_count(0)


async def test_it_is_reached_from_the_inbox_the_waterfall_and_the_runs(
    open_page: Open, url: str, api: LangGraphClient
) -> None:
    thread = await thread_of(api, "ask", {})
    (run,) = await api.runs.list(thread)
    page = await open_page(url, "inbox")
    await page.get_by_role("region", name=f"Thread {thread}").get_by_role("link", name="Why?").click()
    await expect(page.get_by_role("region", name="What it asked")).to_contain_text("ok?")
    await page.get_by_role("link", name="Answer in the thread").click()
    await page.get_by_role("tab", name="Steps").click()
    await page.get_by_role("list", name="Steps in time").get_by_role("link").first.click()
    await expect(lines(page).filter(has_text="asks a question")).to_have_count(1)
    await page.goto(f"{url}/studio/#/runs")
    await page.get_by_role("link", name=f"Explain run {run['run_id']}").click()
    await expect(lines(page).filter(has_text="asks a question")).to_have_count(1)
    await expect(page.get_by_text("It waits for an answer", exact=True)).to_be_visible()
    await api.runs.wait(thread, "ask", command={"resume": "yes"})
    await page.reload()
    await expect(page.get_by_text("It asked, and waits no longer")).to_be_visible()
    await expect(page.get_by_role("link", name="Answer in the thread")).to_have_count(0)


async def test_what_is_not_there_is_said(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = (await api.threads.create())["thread_id"]
    page = await open_page(url, f"threads/{thread}/runs/latest")
    await expect(page.get_by_text("This thread has no runs")).to_be_visible()
    await page.goto(f"{url}/studio/#/threads/{thread}/runs/00000000-0000-4000-8000-00000000ffff")
    await expect(page.get_by_role("alert")).to_contain_text("Run not found")
    await page.goto(f"{url}/studio/#/threads/{thread}/runs/nonsense")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.goto(f"{url}/studio/#/threads/{thread}/log/999999-0")
    await expect(page.get_by_role("alert")).to_contain_text("has no event 999999-0")


async def test_a_long_story_is_drawn_in_part(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "noop", {"items": ["given"]})
    (run,) = await api.runs.list(thread)
    page = await open_page(url)
    chapter = {
        "partition": 1,
        "index": 0,
        "at": "2026-01-02T03:04:05+00:00",
        "type": "tasks.planned",
        "text": "next: a",
    }
    chapters = [{**chapter, "offset": n, "seconds": n, "checkpoint_id": None} for n in range(10_007)]

    async def answer(route: Any) -> None:
        story = await (await route.fetch()).json()
        later = "after=9999-0" in route.request.url
        some = chapters[10_000:] if later else chapters[:10_000]
        await route.fulfill(json={**story, "chapters": some, "left_out": 0 if later else 7})

    await page.route(re.compile(r"/explain"), answer)
    await page.goto(f"{url}/studio/#/threads/{thread}/runs/{run['run_id']}")
    await expect(page.get_by_text("10000 of 10007")).to_be_visible()
    assert await lines(page).count() < 100
    await page.get_by_role("list", name="Story").focus()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="Event 1@9999 in the log")).to_be_visible()
    await page.get_by_role("button", name="7 more").click()
    await expect(page.get_by_text("10007 of 10007")).to_be_visible()
    await page.get_by_role("list", name="Story").focus()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="Event 1@10006 in the log")).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_it_is_accessible_and_fits_a_narrow_screen(
    open_page: Open, url: str, api: LangGraphClient, web: Path, colours: Any
) -> None:
    thread = await thread_of(api, "ask", {})
    page = await open_page(url, f"threads/{thread}/runs/latest", color_scheme=colours)
    await expect(lines(page).first).to_be_visible()
    await assert_accessible(page, web)
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await assert_accessible(page, web)


async def test_a_caller_sees_only_the_stories_of_its_threads(
    open_page: Open, start_server: Callable[..., Server]
) -> None:
    guarded = start_server(AUTH_APP, executors=1)
    try:
        async with get_client(url=guarded.url, headers={"Authorization": "Bearer ann"}) as ann:
            thread = (await ann.threads.create())["thread_id"]
            await ann.runs.wait(thread, "whoami", input={})
        for name in ("ann", "bob"):
            page = await open_page(guarded.url, f"threads/{thread}/runs/latest")
            await page.get_by_label("Value").fill(f"Bearer {name}")
            await page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
            if name == "ann":
                await expect(lines(page).first).to_contain_text("by user:ann")
            else:
                await expect(page.get_by_role("alert")).to_contain_text("not found")
    finally:
        guarded.stop()


async def test_a_run_that_failed_is_retried_from_where_it_failed(
    open_page: Open, url: str, api: LangGraphClient
) -> None:
    thread = (await api.threads.create(graph_id="flaky"))["thread_id"]
    await api.runs.wait(thread, "flaky", input={"items": [], "n": 0}, raise_error=False)
    page = await open_page(url, f"threads/{thread}")
    await expect(page.get_by_text("It failed; what has not run yet: maybe_fail")).to_be_visible()
    await expect(page.get_by_role("alert").first).to_contain_text("kaboom")
    await page.get_by_role("button", name="Retry").click()
    await expect(page.get_by_role("group", name="Counters")).to_contain_text("last run")
    assert len(await api.runs.list(thread)) == 2
    await api.threads.update_state(thread, {"n": 1}, as_node="first")
    await page.reload()
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_label("Messages")).to_contain_text('"fine"')
