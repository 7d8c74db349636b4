"""The page /docs, in a browser: every operation, also those of an application that describes itself otherwise."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Form
from playwright.async_api import Browser

from tests.api.api_harness import api_harness
from threadlog.api.custom_app.mount import CustomApp

pytestmark = [pytest.mark.js, pytest.mark.server]


async def test_the_page_shows_our_operations_and_the_applications(browser: Browser, database: str) -> None:
    app = FastAPI()

    @app.post("/notes")
    async def note(text: str = Form()) -> str:
        """Keep a note.

        For as long as the process lives.
        """
        return text

    async with api_harness(database, custom=CustomApp(asgi=app)) as api:
        context = await browser.new_context()
        try:
            page = await context.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.goto(str(api.client.make_url("/docs")))
            mine = page.locator("details", has=page.locator("code", has_text="/notes"))
            await mine.locator("summary").click()
            for text in ("Keep a note.", "application/x-www-form-urlencoded", "For as long as the process lives."):
                await mine.get_by_text(text).first.wait_for()
            await page.get_by_label("Filter").fill("create a thread")
            ours = page.locator("details:visible")
            await ours.locator("summary").click()
            for text in ("or return it as it is with", "asks for `threads.create`", '"customer": "c-17"'):
                await ours.get_by_text(text).first.wait_for()
            assert await page.locator("#about").inner_text() != "" and problems == []
            assert "could not be read" not in await page.locator("#about").inner_text()
        finally:
            await context.close()
