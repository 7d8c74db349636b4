"""The Studio in a real browser, against a real server: what a person does with it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
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

PAGES = ["threads", "inbox", "runs", "reruns", "assistants", "crons", "store", "system"]


async def choose(page: Page, graph: str) -> None:
    await page.get_by_label("Assistant", exact=True).select_option(label=f"{graph} · v1")


def node(page: Page, name: str) -> Any:
    return page.locator(f'[data-node="{name}"]')


async def test_a_conversation_and_its_graph(open_page: Open, url: str) -> None:
    page = await open_page(url)
    await page.get_by_role("button", name="New thread").click()
    await expect(page.get_by_text("Nothing said yet")).to_be_visible()
    await choose(page, "chat")
    await page.get_by_label("Message", exact=True).fill("**bold** words")
    await page.keyboard.press("Enter")
    messages = page.get_by_role("article")
    await expect(messages).to_have_count(2)
    await expect(messages.nth(1)).to_contain_text("You said: bold words")
    await expect(messages.nth(1).locator("strong")).to_have_text("bold")
    await expect(node(page, "model")).to_have_attribute("data-light", "done")
    await page.get_by_role("tab", name="Steps").click()
    await expect(page.get_by_role("list", name="Nodes in time").get_by_role("listitem")).to_contain_text("model")
    await expect(page.get_by_role("list", name="Steps in time").get_by_role("listitem").first).to_be_visible()
    await page.reload()
    await expect(messages).to_have_count(2)
    await expect(page.get_by_label("Assistant", exact=True).locator("option:checked")).to_have_text("chat · v1")


async def test_subgraphs_can_be_expanded(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{await thread_of(api, 'chat_parent')}")
    await choose(page, "chat_parent")
    await expect(node(page, "child")).to_be_visible()
    await page.get_by_label("expand subgraphs").check()
    await expect(node(page, "child:model")).to_be_visible()
    await expect(page.locator(".frame")).to_have_text("child")
    await page.get_by_label("Message", exact=True).fill("hello")
    await page.keyboard.press("Enter")
    await expect(node(page, "child:model")).to_have_attribute("data-light", "done")


async def test_a_run_stops_at_a_breakpoint_and_goes_on(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{await thread_of(api, 'four')}")
    await choose(page, "four")
    await page.get_by_role("button", name="Stop before three").click()
    await page.get_by_label("Input", exact=True).select_option("JSON")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text("Stopped before three")).to_be_visible()
    await expect(node(page, "three")).to_have_attribute("data-light", "next")
    await page.get_by_role("button", name="Stop before three").click()
    await page.get_by_role("button", name="Go on").click()
    await expect(node(page, "four")).to_have_attribute("data-light", "done")
    await expect(page.get_by_label("Messages")).to_contain_text('"four"')


async def test_two_questions_are_answered_at_once(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{await thread_of(api, 'ask_two', {})}")
    answers = page.get_by_label("Your answer")
    await expect(answers).to_have_count(2)
    await answers.first.fill("one")
    await page.get_by_role("button", name="Answer", exact=True).first.click()
    await expect(page.get_by_text("1 more to go")).to_be_visible()
    await answers.first.fill("two")
    await page.get_by_role("button", name="Answer", exact=True).click()
    await expect(page.get_by_label("Messages")).to_contain_text("left one")
    await expect(page.get_by_label("Messages")).to_contain_text("right two")


async def test_the_inbox_shows_who_waits_and_answers(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "ask", {})
    page = await open_page(url, "inbox")
    waiting = page.get_by_role("region", name=f"Thread {thread}")
    await expect(waiting).to_contain_text("ok?")
    await waiting.get_by_label("Your answer").fill("fine")
    await waiting.get_by_role("button", name="Answer", exact=True).click()
    await expect(waiting).to_have_count(0)
    await page.goto(f"{url}/studio/#/threads/{thread}")
    await expect(page.get_by_label("Messages")).to_contain_text("fine")


async def test_the_past_is_looked_at_edited_and_run_again(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "noop", {"items": ["given"]})
    page = await open_page(url, f"threads/{thread}")
    await page.get_by_role("tab", name="State").click()
    checkpoints = page.get_by_label("Checkpoints").get_by_role("button")
    await expect(checkpoints).to_have_count(4)
    await page.get_by_label("Moment").focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(page.get_by_label("Messages")).to_contain_text("Nothing said yet")
    await page.get_by_role("button", name="Back to now").first.click()
    await page.get_by_role("tab", name="Log").click()
    await page.get_by_label("Types of events").fill("checkpoint.saved")
    rows = page.get_by_role("table", name="Events").get_by_role("row")
    await expect(rows).to_have_count(5)
    await rows.nth(3).get_by_role("button").click()
    await page.get_by_role("button", name="The state at this moment").click()
    await expect(page.get_by_label("Messages")).not_to_contain_text('"b"')
    await page.get_by_label("How the state is shown").select_option("diff")
    await expect(page.locator(".diff .added")).to_contain_text('"a"')
    await page.get_by_label("How the state is shown").select_option("edit")
    editor = page.get_by_label("Values", exact=True)
    await editor.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text('{"items": ["edited"]}')
    await page.get_by_role("button", name="Make a fork").click()
    await expect(checkpoints).to_have_count(5)
    await expect(page.get_by_label("Messages")).to_contain_text('"edited"')
    await checkpoints.first.click()
    await page.get_by_role("button", name="Run from here").click()
    await expect(checkpoints).to_have_count(9)
    history = await api.threads.get_history(thread, limit=100)
    assert len(history) == 9 and history[0]["values"] == {"items": ["given", "a", "b"]}


async def test_input_as_a_form_and_wrong_json(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{await thread_of(api, 'noop')}")
    await choose(page, "noop")
    await page.get_by_label("Input", exact=True).select_option("JSON")
    editor = page.get_by_label("Input as JSON")
    await editor.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text("{nonsense")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert")).to_contain_text("Not JSON")
    await page.get_by_label("Input", exact=True).select_option("form")
    await page.get_by_label("N", exact=True).fill("7")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_label("Messages")).to_contain_text("7")


async def test_tables_create_edit_and_delete(open_page: Open, url: str, api: LangGraphClient) -> None:
    word = uuid.uuid4().hex
    page = await open_page(url, "store")
    await page.get_by_role("button", name="New item").click()
    await page.get_by_role("textbox", name="Item").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(json.dumps({"namespace": ["studio", word], "key": "k", "value": {"text": word}}))
    await page.get_by_role("button", name="Save").click()
    await page.get_by_label("Namespace", exact=True).select_option(label=f"studio / {word}")
    item = page.get_by_role("row").filter(has_text=word)
    await expect(item).to_have_count(1)
    await expect(page.get_by_role("row")).to_have_count(2)  # the rows of all namespaces are gone
    await item.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Nothing here")).to_be_visible()

    await page.goto(f"{url}/studio/#/crons")
    await page.get_by_role("button", name="New cron").click()
    await page.get_by_role("textbox", name="New cron").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(json.dumps({"assistant_id": "noop", "schedule": "61 * * * *"}))
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert")).to_contain_text("schedule")
    await page.get_by_role("textbox", name="New cron").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(
        json.dumps({"assistant_id": "noop", "schedule": "17 4 29 2 *", "input": {"w": word}})
    )
    await page.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=word)
    await expect(row).to_contain_text("17 4 29 2 *")
    await row.get_by_role("button", name="Switch off").click()
    await expect(row.get_by_role("button", name="Switch on")).to_be_visible()
    await row.get_by_role("button", name="Delete").click()
    await expect(row).to_have_count(0)

    thread = (await api.threads.create(metadata={"studio": word}))["thread_id"]
    await page.goto(f"{url}/studio/#/threads")
    await page.get_by_label("Metadata").fill(json.dumps({"studio": word}))
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.get_by_label(f"Choose {thread}").check()
    await page.get_by_role("button", name="Delete 1").click()
    await expect(page.get_by_text("Nothing here")).to_be_visible()


HOSTILE = (
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\n\n'
    "[click](javascript:window.hacked=1) ![pixel](http://192.0.2.1/leak.png) <svg onload=window.hacked=1>"
)


async def test_hostile_values_are_text(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = (await api.threads.create(metadata={"name": HOSTILE}))["thread_id"]
    await api.runs.wait(thread, "chat", input={"messages": [{"role": "user", "content": HOSTILE, "name": "x"}]})
    assistant = await api.assistants.create("chat", name=HOSTILE)
    await api.store.put_item(["studio", "hostile"], "<b>k</b>", {"text": HOSTILE}, index=False)
    page = await open_page(url, f"threads/{thread}")
    await expect(page.get_by_role("article")).to_have_count(2)
    link = page.get_by_role("article").first.get_by_text("click")
    await link.click()
    assert await page.locator("article script, article svg, article img").count() == 0
    await page.get_by_role("tab", name="State").click()
    for place in ("threads", "assistants", "store"):
        await page.goto(f"{url}/studio/#/{place}")
        await expect(page.get_by_role("row").nth(1)).to_be_visible()
    await api.assistants.delete(assistant["assistant_id"])


async def test_a_state_of_another_shape_is_shown(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = await thread_of(api, "chat")
    strange = {
        "values": {"messages": [{"content": {"a": [1]}, "type": 7}, None]},
        "next": [],
        "tasks": [],
        "metadata": {},
    }
    page = await open_page(url)

    async def answer(route: Any) -> None:
        await route.fulfill(json=strange)

    await page.route(re.compile(r"/threads/[^/]+/state"), answer)
    await page.goto(f"{url}/studio/#/threads/{thread}")
    await expect(page.get_by_label("Messages")).to_contain_text("null")


async def test_a_server_that_goes_away_comes_back(open_page: Open, url: str, api: LangGraphClient) -> None:
    thread = (await api.threads.create(metadata={"away": (word := uuid.uuid4().hex)}))["thread_id"]
    page = await open_page(url, errors="ERR_INTERNET_DISCONNECTED")
    await expect(page.get_by_role("row").nth(1)).to_be_visible()
    await page.context.set_offline(True)
    await page.get_by_role("button", name="Reload").click()
    await expect(page.get_by_text("The server does not answer")).to_be_visible()
    await page.get_by_label("Metadata").fill(json.dumps({"away": word}))
    await page.context.set_offline(False)
    await expect(page.get_by_text("The server does not answer")).to_have_count(0)
    await expect(page.get_by_label(f"Choose {thread}")).to_be_visible()


@pytest.fixture(scope="module")
def guarded(start_server: Callable[..., Server]) -> Iterator[Server]:
    running = start_server(AUTH_APP, executors=1)
    yield running
    running.stop()


async def test_where_there_is_auth_it_asks_who_one_is(open_page: Open, guarded: Server) -> None:
    async with get_client(url=guarded.url, headers={"Authorization": "Bearer ann"}) as ann:
        thread = (await ann.threads.create())["thread_id"]
    page = await open_page(guarded.url)
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.get_by_label(f"Choose {thread}").count() == 0
    await page.get_by_label("Value").fill("Bearer ann")
    await page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    await expect(page.get_by_label(f"Choose {thread}")).to_be_visible()
    await page.get_by_role("link", name=re.compile(thread[:13])).click()
    await page.get_by_label("Graph name").fill("whoami")
    await page.get_by_label("Input", exact=True).select_option("JSON")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_label("Messages")).to_contain_text('"ann"')
    other = await open_page(guarded.url, f"threads/{thread}")
    await expect(other.get_by_role("dialog")).to_be_visible()
    await other.get_by_label("Value").fill("Bearer bob")
    await other.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    await expect(other.get_by_role("alert").first).to_contain_text("not found")


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_pages_are_accessible(open_page: Open, url: str, api: LangGraphClient, web: Path, colours: Any) -> None:
    thread = await thread_of(api, "chat", {"messages": [{"role": "user", "content": "hello"}]})
    page = await open_page(url, color_scheme=colours)
    for place in (*PAGES, f"threads/{thread}"):
        await page.goto(f"{url}/studio/#/{place}")
        await expect(page.get_by_role("main").get_by_role("heading", level=1)).to_be_visible()
        await page.wait_for_load_state("networkidle")
        await assert_accessible(page, web)


async def test_a_narrow_screen_and_the_keyboard(open_page: Open, url: str, api: LangGraphClient) -> None:
    page = await open_page(url, f"threads/{await thread_of(api, 'chat')}")
    await page.set_viewport_size({"width": 380, "height": 800})
    await choose(page, "chat")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_role("tab", name="Graph").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="State")).to_have_attribute("aria-selected", "true")
    await expect(page.get_by_role("tab", name="State")).to_be_focused()
