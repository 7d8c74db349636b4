"""Runs started from the Studio: forms of input and context, double-texting, cancelling, going on from a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.contract.gate import Gate
from tests.studio.conftest import WAIT_MS, Open, thread_of
from tests.studio.test_studio import choose
from tests.waiting import eventually

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def statuses(api: LangGraphClient, thread: str) -> list[str]:
    """Of the thread's runs, oldest first."""
    return [run["status"] for run in reversed(await api.runs.list(thread, limit=100))]


async def until(api: LangGraphClient, thread: str, *expected: str) -> None:
    async def seen() -> list[str]:
        return await statuses(api, thread)

    await eventually(seen, lambda now: now == list(expected), within=45)


async def send_json(page: Page, value: Any) -> None:
    await page.get_by_label("Input", exact=True).select_option("JSON")
    await page.get_by_role("textbox", name="Input as JSON").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(json.dumps(value))
    await page.get_by_role("button", name="Send").click()


async def test_input_and_context_are_forms_from_their_schemas(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{(thread := await thread_of(api, 'letter'))}")
    await choose(page, "letter")
    await page.get_by_label("Input", exact=True).select_option("form")
    await page.get_by_role("button", name="Context").click()
    await expect(page.get_by_label("Temperature")).to_have_value("0.5")  # the schema's defaults
    await page.get_by_label("Tone").select_option(label="curt")
    await page.get_by_label("Temperature").fill("0.25")
    await page.get_by_label("Signed").check()
    await page.get_by_label("To*", exact=True).fill("Ann")
    await page.get_by_role("button", name="Add").click()
    await page.get_by_label("Lines-1").fill("hello")
    await page.get_by_label("Copies").fill("2")
    await page.get_by_role("button", name="Send").click()
    said = 'to Ann: [\'hello\'] times 2, {"tone": "curt", "temperature": 0.25, "signed": true}'
    await until(api, thread, "success")
    assert (await api.threads.get_state(thread))["values"]["text"] == said
    await page.get_by_role("button", name="Context").click()
    await expect(page.get_by_label("Messages")).to_contain_text("times 2")


async def gated(open_page: Open, url: str, api: LangGraphClient, gate: Gate) -> tuple[Page, str, str]:
    """A page, its thread, and the run that stands at the gate, started from the page."""
    page = await open_page(url, f"threads/{(thread := await thread_of(api, 'gated'))}")
    await choose(page, "gated")
    await send_json(page, gate.input)
    await expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    [run] = await eventually(lambda: api.runs.list(thread), lambda runs: len(runs) == 1)
    await gate.entered(run["run_id"])
    return page, thread, run["run_id"]


@pytest.mark.parametrize(
    ("strategy", "ends", "items"),
    [
        ("enqueue", ["success", "success"], ["first", "held", "last", "second", "first", "held", "last"]),
        ("interrupt", ["interrupted", "success"], ["first", "second", "first", "held", "last"]),
        ("rollback", ["success"], ["second", "first", "held", "last"]),
    ],
)
async def test_a_run_on_top_of_another(
    open_page: Open, url: str, api: LangGraphClient, gate: Gate, strategy: str, ends: list[str], items: list[str]
) -> None:
    page, thread, run = await gated(open_page, url, api, gate)
    await page.get_by_label("If a run is active").select_option(strategy)
    await send_json(page, {**gate.input, "items": ["second"]})
    if strategy == "enqueue":
        await until(api, thread, "running", "pending")
    else:
        await gate.reached("cancelled", run)
    gate.open()
    await until(api, thread, *ends)
    assert (await api.threads.get_state(thread))["values"]["items"] == items
    for item in items:
        await expect(page.get_by_label("Messages")).to_contain_text(f'"{item}"')


async def test_a_run_on_top_of_another_is_rejected(open_page: Open, url: str, api: LangGraphClient, gate: Gate) -> None:
    page, thread, _ = await gated(open_page, url, api, gate)
    await page.get_by_label("If a run is active").select_option("reject")
    await send_json(page, gate.input)
    await expect(page.get_by_role("alert")).to_contain_text("already running")
    gate.open()
    await until(api, thread, "success")


async def test_a_run_is_cancelled(open_page: Open, url: str, api: LangGraphClient, gate: Gate) -> None:
    page, thread, _ = await gated(open_page, url, api, gate)
    await page.get_by_role("button", name="Cancel the run").click()
    await until(api, thread, "interrupted")
    await expect(page.get_by_role("button", name="Cancel the run")).to_have_count(0)
    gate.open()
    await expect(page.get_by_label("Conversation")).to_contain_text("Cancelled; what has not run yet: hold.")
    await page.get_by_role("button", name="Go on").click()
    await until(api, thread, "interrupted", "success")
    assert (await api.threads.get_state(thread))["values"]["items"] == ["first", "held", "last"]


async def test_the_past_stays_in_view_while_the_run_goes_on(
    open_page: Open, url: str, api: LangGraphClient, gate: Gate
) -> None:
    page, thread, _ = await gated(open_page, url, api, gate)
    messages = page.get_by_label("Messages")
    await expect(messages).to_contain_text('"first"')
    await page.get_by_label("Moment").focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(messages).not_to_contain_text('"first"')
    before = await page.get_by_label("Moment").get_attribute("max")
    gate.open()
    await until(api, thread, "success")
    await expect(page.get_by_label("Moment")).not_to_have_attribute("max", str(before))  # the log grows beside it
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(messages).not_to_contain_text('"last"')
    await page.get_by_role("button", name="Back to now").first.click()
    await expect(messages).to_contain_text('"last"')


async def test_a_run_is_retried_from_a_step_in_the_middle(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "four", {})
    page = await open_page(url, f"threads/{thread}")
    await page.get_by_role("tab", name="State").click()
    checkpoints = page.get_by_label("Checkpoints").get_by_role("button")
    await expect(checkpoints).to_have_count(6)
    states = await api.threads.get_history(thread, limit=10)
    [middle] = [n for n, state in enumerate(states) if state["next"] == ["three"]]
    await checkpoints.nth(len(states) - 1 - middle).click()
    await expect(page.get_by_role("region", name="State")).to_contain_text("next: three")
    await page.get_by_role("button", name="Run from here").click()
    await until(api, thread, "success", "success")
    await expect(checkpoints).to_have_count(9)  # a fork of the step, and what came of it
    after = await api.threads.get_history(thread, limit=20)
    assert len(after) == 9 and after[0]["values"]["items"] == ["one", "two", "three", "four"]
