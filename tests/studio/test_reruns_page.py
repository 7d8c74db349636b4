"""The report of `threadlog rerun` as a page of the Studio."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.servers import Server
from tests.studio.conftest import WAIT_MS, Open, assert_accessible, thread_of

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)

CHANGED = """
from langgraph.graph import START, StateGraph
import operator
from typing import Annotated, TypedDict


class Items(TypedDict, total=False):
    items: Annotated[list, operator.add]
    gate: str
    n: int


builder = StateGraph(Items)
builder.add_node("a", lambda state: {"items": ["quite another word"]})
builder.add_node("b", lambda state: {"items": ["b"]})
builder.add_edge(START, "a")
builder.add_edge("a", "b")
noop = builder.compile()
"""


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The application of the tests with another `noop`."""
    (tmp_path / "changed.py").write_text(CHANGED)
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"noop": "./changed.py:noop"}}))
    return config


def report_of(*runs: tuple[str, str, list[Any]]) -> dict[str, Any]:
    named = [
        {"run_id": id, "thread_id": "t", "graph_id": "g", "verdict": verdict, "why": None, "tasks": tasks}
        for id, verdict, tasks in runs
    ]
    return {"made_at": "2026-01-02T03:04:05+00:00", "runs": named, "counts": {}}


async def choose(page: Page, file: Path) -> None:
    await page.get_by_label("Report").set_input_files(file)


async def test_the_report_of_the_command_shows_where_todays_code_does_otherwise(
    open_page: Open, server: Server, url: str, api: LangGraphClient, changed: Path, tmp_path: Path
) -> None:
    thread = await thread_of(api, "noop", {"items": ["given"]}, {"items": ["more"]})
    runs = [run["run_id"] for run in await api.runs.list(thread)]
    file = tmp_path / "report.json"
    done = await asyncio.to_thread(
        server.threadlog, "rerun", *runs, "--config", str(changed), "--report", str(file)
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(file) in done.stderr and "2 different" in done.stdout
    page = await open_page(url, "reruns")
    await choose(page, file)
    await expect(page.get_by_role("button", name="2 different")).to_be_visible()
    await expect(page.get_by_role("region", name="Where they differ")).to_contain_text("noop · a in 2 runs")
    await page.get_by_role("table", name="Runs of the report").get_by_role("link").first.click()
    step = page.get_by_role("list", name="Steps of the rerun").get_by_role("listitem")
    await expect(step).to_have_count(1)
    await expect(step).to_contain_text("items[0]")
    await expect(step.locator("del")).to_have_text("a")
    await expect(step.locator("ins").first).to_contain_text("quite")
    await page.get_by_label("also what is the same").check()
    await expect(step).to_have_count(3)
    await page.get_by_role("link", name="Explain it").click()
    await expect(page.get_by_role("list", name="Story")).to_be_visible()
    await page.go_back()
    await page.get_by_role("link", name="All runs").click()
    await expect(page.get_by_role("button", name="2 different")).to_be_visible()


async def test_many_runs_are_summed_up_and_filtered(open_page: Open, url: str, tmp_path: Path) -> None:
    def task(node: str, *changes: dict[str, Any]) -> dict[str, Any]:
        verdict = "different" if changes else "same"
        return {"step": 1, "node": node, "verdict": verdict, "details": [], "changes": list(changes)}

    change = {"path": "x", "recorded": {"a": 1}, "today": None, "has": ["recorded"]}
    unanswered = {"step": 1, "node": "m", "verdict": "unanswered", "details": ["the record has no answer"]}
    report = report_of(
        *((f"same-{n}", "same", [task("m")]) for n in range(900)),
        *((f"other-{n}", "different", [task("m"), task("refund", change)]) for n in range(90)),
        *((f"silent-{n}", "unanswered", [unanswered]) for n in range(10)),
    )
    file = tmp_path / "many.json"
    file.write_text(json.dumps(report))
    page = await open_page(url, "reruns")
    await choose(page, file)
    await expect(page.get_by_text("1000 of 1000")).to_be_visible()
    await page.get_by_role("button", name="10 can't be compared").click()
    await expect(page.get_by_text("10 of 1000")).to_be_visible()
    await expect(page.get_by_role("row").nth(1)).to_contain_text("the record has no answer")
    await page.get_by_role("button", name="All of them").click()
    await page.get_by_role("button", name="g · refund").press("Enter")
    await expect(page.get_by_text("90 of 1000")).to_be_visible()
    await page.get_by_role("row").nth(1).get_by_role("link").click()
    await expect(page.locator(".sides .added")).to_contain_text("nothing")


HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{nonsense", "is not JSON"),
        ("[]", "not a report of `threadlog rerun`"),
        ('{"runs": 7}', "not a report of `threadlog rerun`"),
        ('{"runs": [7, {"run_id": 7}, {"run_id": "r", "verdict": "same", "tasks": [null]}]}', "can't be understood"),
        ("", "is not JSON"),
    ],
)
async def test_a_malformed_report_is_a_sentence(
    open_page: Open, url: str, tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)
    page = await open_page(url, "reruns")
    await choose(page, file)
    await expect(page.get_by_role("alert")).to_contain_text(sentence)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Reruns")


async def test_a_hostile_report_is_text(open_page: Open, url: str, tmp_path: Path) -> None:
    change = {"path": HOSTILE, "recorded": HOSTILE, "today": HOSTILE + "!", "has": ["recorded", "today"]}
    odd = {"path": None, "recorded": {"__proto__": {"a": 1}}, "today": [HOSTILE], "has": "x"}
    task = {"step": HOSTILE, "node": HOSTILE, "verdict": "different", "details": [HOSTILE], "changes": [change, odd]}
    file = tmp_path / f"{'x' * 100}.json"
    file.write_text(json.dumps(report_of((HOSTILE, "different", [task]))))
    page = await open_page(url, "reruns")
    await choose(page, file)
    await expect(page.get_by_role("list", name="Steps of the rerun").get_by_role("listitem")).to_contain_text(HOSTILE)


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_it_is_accessible_and_takes_a_dropped_file(
    open_page: Open, url: str, web: Path, tmp_path: Path, colours: Any
) -> None:
    change = {"path": "messages[0].content", "recorded": "one word", "today": "two words", "has": ["recorded", "today"]}
    task = {"step": 3, "node": "model", "verdict": "different", "details": [], "changes": [change]}
    page = await open_page(url, "reruns", color_scheme=colours)
    await assert_accessible(page, web)
    report = report_of(("one", "different", [task]), ("two", "same", []), ("three", "unanswered", []))
    await page.evaluate(
        """(text) => {
            const data = new DataTransfer();
            data.items.add(new File([text], "dropped.json", {type: "application/json"}));
            const at = document.querySelector("main");
            for (const type of ["dragover", "drop"])
                at.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}));
        }""",
        json.dumps(report),
    )
    await expect(page.get_by_text("3 of 3")).to_be_visible()
    await assert_accessible(page, web)
    await page.get_by_role("table").get_by_role("link").first.click()
    await expect(page.locator("del").first).to_be_visible()
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await assert_accessible(page, web)
