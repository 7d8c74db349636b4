"""Two branches beside each other, the moment that the scrubber points at, and what a run has used, in the Studio."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.servers import Server
from tests.studio.conftest import WAIT_MS, Open, assert_accessible, thread_of

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)


def lit(page: Page, side: str, node: str) -> Any:
    return page.get_by_role("region", name=f"Graph of the {side}").locator(f'[data-node="{node}"]')


async def forked(api: LangGraphClient) -> tuple[str, str, str]:
    """A thread whose history has two branches: the end of the first, and of the second, newer one."""
    thread = await thread_of(api, "four", {"items": ["given"]})
    history = await api.threads.get_history(thread)
    middle = next(state for state in history if state["next"] == ["three"])
    updated = await api.threads.update_state(
        thread, {"items": ["edited"]}, checkpoint_id=middle["checkpoint"]["checkpoint_id"], as_node="three"
    )  # as if three had said something else
    await api.runs.wait(thread, "four", input=None, checkpoint_id=updated["checkpoint"]["checkpoint_id"])
    newest = (await api.threads.get_history(thread))[0]
    return thread, history[0]["checkpoint"]["checkpoint_id"], newest["checkpoint"]["checkpoint_id"]


async def test_two_branches_beside_each_other(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread, old, new = await forked(api)
    page = await open_page(url, f"threads/{thread}")
    await page.get_by_role("tab", name="State").click()
    await page.get_by_label("Checkpoints").get_by_role("button").nth(4).click()
    await page.get_by_role("link", name="Side by side").click()
    await page.get_by_label("Left", exact=True).select_option(value=new)
    await page.get_by_label("Right", exact=True).select_option(value=old)
    await expect(page.get_by_text("the left has 2 checkpoints of its own, the right 2 checkpoints")).to_be_visible()
    await expect(lit(page, "left", "two")).to_have_attribute("data-light", "shared")
    await expect(lit(page, "left", "three")).to_have_attribute("data-light", "")
    await expect(lit(page, "left", "four")).to_have_attribute("data-light", "done")
    await expect(lit(page, "right", "three")).to_have_attribute("data-light", "done")
    steps = page.get_by_role("region", name="Step by step").get_by_role("listitem")
    await expect(steps).to_have_count(2)
    await expect(steps.first).to_contain_text("1 difference")
    await expect(steps.first.locator("del")).to_have_text("edited")
    await expect(steps.first.locator("ins")).to_have_text("three")
    await page.get_by_role("button", name="Swap").click()
    await expect(steps.first.locator("del")).to_have_text("three")
    await page.get_by_label("Left", exact=True).select_option(value=new)
    await expect(page.get_by_text("Both are the same checkpoint")).to_be_visible()
    await page.go_back()
    await steps.first.get_by_role("link").first.click()
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(page.get_by_label("Messages")).to_contain_text('"three"')


async def test_what_can_not_be_compared_is_said(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = (await api.threads.create())["thread_id"]
    page = await open_page(url, f"threads/{thread}/compare")
    await expect(page.get_by_text("This thread has no checkpoints")).to_be_visible()
    one = await thread_of(api, "noop", {"items": ["given"]})
    await page.goto(f"{url}/studio/#/threads/{one}/compare/nonsense..other")
    await expect(page.get_by_role("alert")).to_contain_text("no checkpoint nonsense, other")
    await page.goto(f"{url}/studio/#/threads/{one}/compare")
    await expect(page.get_by_text("the left has 3 checkpoints of its own, the right 0")).to_be_visible()
    await expect(page.get_by_role("region", name="Step by step")).to_contain_text("only on the left")


async def test_the_graph_shows_the_moment_event_by_event(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "four", {"items": []})
    page = await open_page(url, f"threads/{thread}")

    def light(node: str) -> Any:
        return page.locator(f'[data-node="{node}"]')

    await expect(light("four")).to_have_attribute("data-light", "done")  # the last run, from the log
    await page.get_by_label("Moment").focus()
    await page.keyboard.press("Home")
    await expect(light("one")).to_have_attribute("data-light", "")
    onwards = page.get_by_role("button", name="One event on")
    for _ in range(30):
        if await light("two").get_attribute("data-light") == "active":
            break
        await onwards.click()
    await expect(light("one")).to_have_attribute("data-light", "done")
    await expect(light("three")).to_have_attribute("data-light", "")
    await page.get_by_role("button", name="One event back").click()
    await page.get_by_role("button", name="Play").click()
    await expect(light("four")).to_have_attribute("data-light", "done")
    await expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
    await expect(page.get_by_text("This is the past")).to_have_count(0)


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_branches_are_accessible_and_fit_a_narrow_screen(
    open_page: Open, url: str, api: LangGraphClient, web: Path, colours: Any
) -> None:
    thread, old, new = await forked(api)
    page = await open_page(url, f"threads/{thread}/compare/{old}..{new}", color_scheme=colours)
    await expect(lit(page, "right", "four")).to_be_visible()
    await assert_accessible(page, web)
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await assert_accessible(page, web)


COUNTED = """
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

OPEN = Path(__file__).parent / "open"


class Counted(BaseChatModel):
    @property
    def _llm_type(self):
        return "counted"

    def _generate(self, messages, *args, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=AIMessage("one two"))])

    async def _astream(self, messages, *args, **kwargs) -> AsyncIterator[ChatGenerationChunk]:
        said = {"model_name": "counted-1"}
        usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
        yield ChatGenerationChunk(message=AIMessageChunk("one ", usage_metadata=usage, response_metadata=said))
        usage = {"input_tokens": 0, "output_tokens": 23, "total_tokens": 23}
        yield ChatGenerationChunk(message=AIMessageChunk("two", usage_metadata=usage))
        for _ in range(6000):
            if OPEN.exists():
                return
            await asyncio.sleep(0.01)


async def model(state: MessagesState):
    return {"messages": [await Counted().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_edge(START, "model")
counted = builder.compile()
"""


@pytest.mark.parametrize("priced", [True, False], ids=["priced", "unpriced"])
async def test_tokens_cost_and_time_are_counted_while_a_run_goes_on(
    open_page: Open, own_server: Callable[..., Server], tmp_path: Path, priced: bool
) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"counted": "./counted.py:counted"}}))
    prices = tmp_path / "prices.json"
    prices.write_text('{"counted-*": {"input": 2, "output": 10}}')
    server = own_server(config, executors=1, env={"THREADLOG_PRICES": str(prices)} if priced else {})
    page = await open_page(server.url)
    await page.get_by_role("button", name="New thread").click()
    await page.get_by_label("Message", exact=True).fill("count")
    await page.keyboard.press("Enter")
    counters = page.get_by_role("group", name="Counters")
    await expect(counters).to_contain_text("this run: 1,123 tokens (1,000 in, 123 out)")
    if priced:
        await expect(counters).to_contain_text("cost 0.00323")
    else:
        await expect(counters).not_to_contain_text("cost")
    elapsed = counters.get_by_role("time")
    before = await elapsed.inner_text()
    await expect(elapsed).not_to_have_text(before)
    (tmp_path / "open").touch()
    await expect(counters).to_contain_text("last run: 1,123 tokens")
    await expect(counters).to_contain_text("thread: 1,123 tokens")
    await page.get_by_role("link", name="Explain this run").click()
    facts = page.locator("dl[aria-label='The run']")
    await expect(facts).to_contain_text("counted-1: calls 1")
    await expect(facts).to_contain_text(re.compile("cost 0.00323" if priced else "total tokens 1,123$"))
