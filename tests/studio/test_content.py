"""What messages hold, in the Studio: pictures, files, thoughts, tool calls and results, Markdown with hostile HTML."""

from __future__ import annotations

import re

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import expect

from tests.studio.conftest import WAIT_MS, Open, thread_of
from tests.studio.test_studio import choose

pytestmark = [pytest.mark.js, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)


@pytest.mark.parametrize("live", [False, True], ids=["stored", "while it runs"])
async def test_each_kind_of_content_is_shown(open_page: Open, url: str, api: LangGraphClient, live: bool) -> None:
    told = {"messages": [{"role": "user", "content": "show me"}]}
    page = await open_page(url, f"threads/{await thread_of(api, 'shown', *([] if live else [told]))}")
    if live:
        await choose(page, "shown")
        await page.get_by_label("Message", exact=True).fill("show me")
        await page.keyboard.press("Enter")
    messages = page.get_by_role("article")
    await expect(messages).to_have_count(5)
    kinds, calls, result, failed = (messages.nth(n) for n in range(1, 5))

    # Pictures that the message contains are loaded; those elsewhere are links, and nothing else is either.
    pictures = kinds.locator("img")
    await expect(pictures).to_have_count(3)
    for n in range(3):
        assert await pictures.nth(n).evaluate("one => one.complete && one.naturalWidth") == 1
    cat = kinds.get_by_role("link", name="image: https://pictures.example/cat.png")
    assert (await cat.get_attribute("href"), await cat.get_attribute("rel")) == (
        "https://pictures.example/cat.png",
        "noreferrer noopener",
    )
    for name in ("file: https://files.example/report.pdf", "audio: http://sounds.example/a.mp3"):
        await expect(kinds.get_by_role("link", name=name)).to_be_visible()
    await expect(kinds).to_contain_text("[image javascript:window.hacked=1]")
    assert await page.locator("a[href^='javascript:']").count() == 0

    # Files are for downloading, whatever they hold.
    async with page.expect_download() as download:
        await kinds.get_by_role("link", name="hello.txt (text/plain)").click()
    saved = await download.value
    assert saved.suggested_filename == "hello.txt" and (await saved.path()).read_text() == "hello"
    for name in ("image (image/svg+xml)", "x.html (text/html)"):
        assert await kinds.get_by_role("link", name=name).get_attribute("download")

    thoughts = kinds.get_by_role("group").filter(has_text="reasoning")
    await expect(thoughts).to_have_count(2)
    await expect(thoughts.nth(1).locator("strong")).to_be_hidden()
    await thoughts.nth(1).get_by_text("reasoning").click()
    await expect(thoughts.nth(1).locator("strong")).to_have_text("one")
    await expect(kinds).to_contain_text("nobody knows")  # of a kind that this version does not know

    await expect(calls).to_contain_text("look_up")
    await expect(calls).to_contain_text("<b>pixel</b>")
    await expect(result).to_have_attribute("aria-label", "tool message")
    await expect(result.locator("strong")).to_have_text("dot")
    await expect(failed).to_contain_text("failed")
    await expect(failed).to_contain_text("no such word")


MARKDOWN = """# Title

| a | b |
|---|---|
| 1 | **2** |

- [x] done
- `code`

<script>window.hacked=1</script> <iframe src="https://evil.example"></iframe> <form action="https://evil.example"><input></form>
<a href="javascript:window.hacked=1">a</a> <style>body{display:none}</style>
<details open ontoggle="window.hacked=1">x</details>

[plain](https://fine.example/x) [js](javascript:window.hacked=1) [data](data:text/html;base64,PHNjcmlwdD4=)
[vb](vbscript:x)
![leak](https://evil.example/leak.png) ![svg](data:image/svg+xml;base64,PHN2Zy8+)

<https://auto.example>
"""


async def test_markdown_is_rendered_and_html_in_it_is_text(open_page: Open, url: str, api: LangGraphClient) -> None:
    told = {"messages": [{"role": "user", "content": MARKDOWN}]}
    page = await open_page(url, f"threads/{await thread_of(api, 'chat', told)}")
    message = page.get_by_role("article").first
    await expect(message.get_by_role("heading", name="Title")).to_be_visible()
    await expect(message.get_by_role("cell", name="2")).to_be_visible()
    await expect(message.get_by_role("checkbox")).to_be_checked()
    assert await message.locator("script, iframe, form, style, svg, img, details, object").count() == 0
    targets = await message.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href') || '')")
    assert not [one for one in targets if re.match(r"\s*(javascript|data|vbscript):", one, re.I)], targets
    assert "https://fine.example/x" in targets and "https://auto.example" in targets
    await expect(message).to_contain_text("[image leak https://evil.example/leak.png]")
