"""Questions to a person in the Studio: forms from a schema, reviews of what the agent wants to do, several at once."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Locator, Page, expect

from tests.installed import has, needs
from tests.studio.conftest import WAIT_MS, Open, thread_of
from tests.waiting import eventually

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)
with_schema = needs("langgraph", "1.2.12")
EMAIL = {"to": "ann@example.com", "subject": "Hello", "copies": 2}


async def of_inbox(api: LangGraphClient, words: str = "") -> str:
    return await thread_of(api, "inbox", {"messages": [{"role": "user", "content": words}]})


async def values_at_rest(api: LangGraphClient, thread: str) -> Any:
    """The thread's values, once no question is open and nothing runs."""

    async def state() -> dict[str, Any]:
        return await api.threads.get(thread)

    return (await eventually(state, lambda seen: seen["status"] == "idle", within=45))["values"]


async def answer_of(api: LangGraphClient, thread: str) -> Any:
    """What the graph `inbox` was given."""
    values = await values_at_rest(api, thread)
    return json.loads(values["messages"][-1]["content"].removeprefix("The answer: "))


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def action(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


# --- forms from response_schema ---------------------------------------------------------------------------------------


async def fill_order(form: Locator) -> None:
    await form.get_by_label("Name").fill("Ann")
    await form.get_by_label("Amount").fill("3")
    await form.get_by_label("Size").select_option(label="large")
    await form.get_by_label("Gift").check()
    await form.get_by_label("City").fill("Oslo")
    await button(form, "Add").click()
    await form.get_by_label("Tags-1").fill("fast")


ORDER = {"name": "Ann", "amount": 3, "size": "large", "gift": True, "address": {"city": "Oslo"}, "tags": ["fast"]}


@with_schema
async def test_an_answer_is_a_form_from_its_schema(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "form", {})
    page = await open_page(url, f"threads/{thread}")
    form = page.get_by_role("region", name="Waiting for you")
    await expect(form).to_contain_text("What do you order?")
    await form.get_by_label("Name").fill("A")
    await form.get_by_label("Amount").fill("12")
    await button(form, "Answer").click()
    wrong = form.get_by_role("list").first
    for message in (re.compile("name: .*too short"), re.compile("amount: 12 is greater than 9"), "size: is required"):
        await expect(wrong).to_contain_text(message)
    await expect(wrong).to_contain_text("address.city: is required")
    assert (await api.threads.get(thread))["status"] == "interrupted", "nothing was sent"
    await fill_order(form)
    await button(form, "Answer").click()
    assert await values_at_rest(api, thread) == {"items": [ORDER]}
    await expect(page.get_by_label("Messages")).to_contain_text("items: [1]")


@with_schema
async def test_several_forms_are_answered_together_in_the_inbox(
    open_page: Open, url: str, api: LangGraphClient
) -> None:
    thread = await thread_of(api, "forms", {})
    page = await open_page(url, "inbox")
    waiting = page.get_by_role("region", name=f"Thread {thread}")
    await expect(button(waiting, "Answer")).to_have_count(2)
    colour = waiting.locator(".ask").filter(has_text="Which colour?")
    await colour.get_by_label("Colour").select_option(label="blue")
    await button(colour, "Answer").click()
    await expect(waiting).to_contain_text("1 more to go")
    assert (await api.threads.get(thread))["status"] == "interrupted"
    order = waiting.locator(".ask").filter(has_text="What do you order?")
    await fill_order(order)
    await button(order, "Answer").click()
    await expect(waiting).to_have_count(0)
    items = (await values_at_rest(api, thread))["items"]
    assert sorted(items, key=str) == sorted([ORDER, "blue"], key=str)


# --- questions of the Agent Inbox -------------------------------------------------------------------------------------


async def test_a_human_interrupt_allows_what_it_says(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await of_inbox(api, "accept respond")
    page = await open_page(url, f"threads/{thread}")
    asked = action(page, "send_email")
    await expect(asked.locator("strong")).to_have_text("review")  # its description is Markdown, and text
    assert await asked.locator("img").count() == 0
    await expect(asked).to_contain_text("ann@example.com")
    await expect(asked.get_by_role("button")).to_have_text(["Approve", "Respond"])
    await button(asked, "Approve").click()
    assert await answer_of(api, thread) == [{"type": "accept", "args": None}]


async def test_a_human_interrupt_is_edited_as_a_form(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await of_inbox(api)
    page = await open_page(url, f"threads/{thread}")
    asked = action(page, "send_email")
    await button(asked, "Edit").click()
    await expect(asked.get_by_label("to")).to_have_value("ann@example.com")
    await asked.get_by_label("subject").fill("Good morning")
    await asked.get_by_label("copies").fill("3")
    await button(asked, "Approve as edited").click()
    args = {**EMAIL, "subject": "Good morning", "copies": 3}
    assert await answer_of(api, thread) == [{"type": "edit", "args": {"action": "send_email", "args": args}}]


async def test_a_human_interrupt_is_edited_as_json(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await of_inbox(api)
    page = await open_page(url, f"threads/{thread}")
    asked = action(page, "send_email")
    await button(asked, "Edit").click()
    await asked.get_by_label("the arguments as JSON").check()
    editor = asked.get_by_role("textbox", name="Arguments of send_email")
    for text in ("{nonsense", '{"to": ["ann", "bob"], "more": null}'):
        await editor.click()
        await page.keyboard.press("Control+A")
        await page.keyboard.insert_text(text)
        await button(asked, "Approve as edited").click()
        if text == "{nonsense":
            await expect(asked.get_by_role("alert")).to_contain_text("Not JSON")
    args = {"to": ["ann", "bob"], "more": None}
    assert await answer_of(api, thread) == [{"type": "edit", "args": {"action": "send_email", "args": args}}]


@pytest.mark.parametrize("where", ["thread", "inbox"])
async def test_a_human_interrupt_is_responded_to_or_ignored(
    open_page: Open, url: str, api: LangGraphClient, where: str
) -> None:
    responded, ignored = await of_inbox(api), await of_inbox(api, "single ignore")
    page = await open_page(url, "inbox" if where == "inbox" else f"threads/{responded}")

    def of(thread: str) -> Locator:
        return action(page.get_by_role("region", name=f"Thread {thread}") if where == "inbox" else page, "send_email")

    await button(of(responded), "Respond").click()
    await expect(button(of(responded), "Send the response")).to_be_disabled()
    await of(responded).get_by_label("Your response").fill("rather not")
    await button(of(responded), "Send the response").click()
    assert await answer_of(api, responded) == [{"type": "response", "args": "rather not"}]
    if where == "thread":
        await page.goto(f"{url}/studio/#/threads/{ignored}")
    await button(of(ignored), "Ignore").click()
    assert await answer_of(api, ignored) == [{"type": "ignore", "args": None}]


# --- LangChain's middleware -------------------------------------------------------------------------------------------

ASKED = {"messages": [{"role": "user", "content": "send it and tidy up"}]}


def results(values: Any) -> dict[str, str]:
    return {m["tool_call_id"]: m["content"] for m in values["messages"] if m["type"] == "tool"}


@pytest.fixture
async def reviewed(api: LangGraphClient) -> AsyncIterator[str]:
    yield await thread_of(api, "approvals", ASKED)


@needs("langchain", "1.0")
async def test_tool_calls_are_reviewed_together(open_page: Open, url: str, api: LangGraphClient, reviewed: str) -> None:
    page = await open_page(url, f"threads/{reviewed}")
    email, file = action(page, "send_email"), action(page, "delete_file")
    await expect(email).to_contain_text("requires approval")
    await expect(file.get_by_role("button")).to_have_text(["Approve", "Reject"])
    await button(email, "Approve").click()
    await expect(email).to_contain_text("Approved")
    await button(email, "Change").click()  # until the last is decided
    await button(email, "Edit").click()
    await email.get_by_label("to").fill("bob@example.com")
    await button(email, "Approve as edited").click()
    await button(file, "Reject").click()
    await file.get_by_label("Reason (optional)").fill("we need it")
    await button(file, "Reject it").click()
    values = await values_at_rest(api, reviewed)
    assert "sent 2 to bob@example.com" in results(values)["call-send_email"]
    assert "we need it" in results(values)["call-delete_file"]
    await expect(page.get_by_label("Messages")).to_contain_text("Done: ")


@pytest.mark.skipif(not has("langgraph", "1.2.12"), reason="LangChain asks one by one with LangGraph's response_schema")
@needs("langchain", "1.5")
async def test_tool_calls_are_reviewed_one_by_one(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "approvals_each", ASKED)
    page = await open_page(url, "inbox")
    waiting = page.get_by_role("region", name=f"Thread {thread}")
    email, file = action(waiting, "send_email"), action(waiting, "delete_file")
    await expect(file.get_by_role("button")).to_have_text(["Approve", "Reject"])
    await button(email, "Edit").click()
    await email.get_by_label("Copies").fill("5")  # the form is from the tool's own schema
    await button(email, "Approve as edited").click()
    await expect(waiting).to_contain_text("1 more to go")
    await button(file, "Approve").click()
    await expect(waiting).to_have_count(0)
    values = await values_at_rest(api, thread)
    assert "sent 5 to ann@example.com" in results(values)["call-send_email"]
    assert results(values)["call-delete_file"] == "deleted report.txt"
