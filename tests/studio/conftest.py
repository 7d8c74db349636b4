"""A headless Chromium, and pages of the Studio in it that fail the test for any error they report.

What pages look like is kept in `THREADLOG_ARTEFACTS`, a folder, when it is set.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Browser, Page, Request, async_playwright

from tests.js.test_smoke import chromium, install
from tests.servers import Server

__all__ = ["chromium"]

WEB = Path(__file__).parents[2] / "api" / "studio" / "web"
WAIT_MS = 45_000  # a busy machine

Open = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def web() -> Path:
    """The folder of the sources, with its packages installed."""
    return install(WEB)


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def url(server: Server) -> str:
    return server.url


@pytest.fixture(scope="session")
async def api(url: str) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=url, api_key=None) as client:
        yield client


async def thread_of(api: LangGraphClient, graph: str, *inputs: dict[str, Any]) -> str:
    """A thread on which this graph has run with these inputs."""
    thread = (await api.threads.create(graph_id=graph))["thread_id"]
    for given in inputs:
        await api.runs.wait(thread, graph, input=given)
    return thread


async def assert_accessible(page: Page, web: Path) -> None:
    """Raises for what axe finds against WCAG 2 A and AA."""
    await page.evaluate((web / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = await page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa']})")
    problems = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]]
    assert not problems, problems


@pytest.fixture
async def open_page(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Opens the Studio of a server at a place. Afterwards no page may have reported an error, run what it was to show,
    or asked anybody but its server. `errors`: a pattern of console errors that the test provokes."""
    contexts: list[Any] = []
    wrong: list[str] = []
    allowed = [r"Failed to load resource"]  # a refusal by the server, which the page shows

    async def open_at(url: str, place: str = "", *, errors: str = "", **options: Any) -> Page:
        if errors:
            allowed.append(errors)
        context = await browser.new_context(viewport={"width": 1400, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)

        def asked(sent: Request) -> None:
            if not sent.url.startswith((url, "data:", "blob:")):
                wrong.append(f"asked {sent.url}")

        page = await context.new_page()
        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(f"raised {error}"))
        page.on("dialog", lambda dialog: dialog.accept())
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        await page.goto(f"{url}/studio/#/{place}")
        await page.locator("main:not([aria-busy])").wait_for()  # the page's own code has come
        return page

    yield open_at
    if folder := os.environ.get("THREADLOG_ARTEFACTS"):
        os.makedirs(folder, exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.name)
        for number, context in enumerate(contexts):
            for page in context.pages:
                await page.screenshot(path=Path(folder) / f"{name}-{number}.png")
    for context in contexts:
        for page in context.pages:
            assert await page.evaluate("window.hacked") is None
        await context.close()
    assert not [one for one in wrong if not any(re.search(pattern, one) for pattern in allowed)]
