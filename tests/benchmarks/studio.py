"""What the Studio feels like in a headless Chromium: its first screen, a long thread, frames while tokens stream.

python -m tests.benchmarks.studio [--messages 2000] [--events 5000]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Page, async_playwright

from tests.benchmarks.servers import kinds, running
from tests.benchmarks.workloads import percentile

BUNDLE = Path(__file__).parents[2] / "api" / "studio" / "bundle"
# Milliseconds between the frames that the page draws, until it is told to stop.
_FRAMES = """() => { window.frames_ms = []; let last = performance.now(); const step = (now) => {
  window.frames_ms.push(now - last); last = now; if (window.frames_ms.length < 20000) requestAnimationFrame(step); };
  requestAnimationFrame(step); }"""


async def frames(page: Page, act: Any) -> str:
    await page.evaluate(_FRAMES)
    await act()
    taken = sorted(await page.evaluate("window.frames_ms"))
    p50, p99 = percentile(taken, 50), percentile(taken, 99)
    return f"{len(taken)} frames, p50 {p50:.0f}, p99 {p99:.0f}, worst {taken[-1]:.0f} ms"


async def measure(url: str, messages: int, events: int) -> None:
    sizes = [file.stat().st_size for file in BUNDLE.iterdir() if file.suffix in (".js", ".css")]
    print(f"bundle: {sum(sizes) / 1e6:.2f} MB in {len(sizes)} files")
    async with httpx.AsyncClient(base_url=url, timeout=120) as http, async_playwright() as playwright:
        long = (await http.post("/threads", json={})).json()["thread_id"]
        said = [
            {"role": "user" if n % 2 else "assistant", "content": f"**{n}** of many words"} for n in range(messages)
        ]
        wait = {"assistant_id": "chat", "input": {"messages": said}}
        (await http.post(f"/threads/{long}/runs/wait", json=wait)).raise_for_status()
        busy = (await http.post("/threads", json={})).json()["thread_id"]
        noop = {"assistant_id": "noop", "input": {}}
        count = 0
        while count < events:
            for _ in range(50):
                await http.post(f"/threads/{busy}/runs/wait", json=noop)
            count = await _events(http, busy)
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for attempt in ("cold", "warm"):
            page = await browser.new_page()
            begun = time.perf_counter()
            await page.goto(f"{url}/studio/")
            await page.get_by_role("button", name="New thread").wait_for()
            print(f"first screen, {attempt}: {(time.perf_counter() - begun) * 1000:.0f} ms")
            if attempt == "cold":
                await page.close()
        begun = time.perf_counter()
        await page.goto(f"{url}/studio/#/threads/{long}")
        await page.get_by_role("article").last.wait_for()
        print(f"a thread of {messages} messages: {(time.perf_counter() - begun) * 1000:.0f} ms")

        async def speak() -> None:
            box = page.get_by_label("Message", exact=True)
            await box.fill("hello")
            await page.keyboard.press("Enter")
            await page.get_by_text("running", exact=True).wait_for(state="hidden")

        print(f"tokens stream into it: {await frames(page, speak)}")
        begun = time.perf_counter()
        await page.goto(f"{url}/studio/#/threads/{busy}")
        await page.get_by_role("tab", name="Log").click()
        await page.get_by_text(f"{count} of {count}", exact=False).wait_for()
        print(f"a thread of {count} events: {(time.perf_counter() - begun) * 1000:.0f} ms")

        async def scrub() -> None:
            await page.get_by_label("Moment").focus()
            for _ in range(50):
                await page.keyboard.press("ArrowLeft")

        print(f"50 steps of its slider: {await frames(page, scrub)}")
        await browser.close()


async def _events(http: httpx.AsyncClient, thread: str) -> int:
    count, after = 0, None
    while True:
        query = {"limit": 1000, **({"after": after} if after else {})}
        page = await http.get(f"/threads/{thread}/events", params=query)
        count += len(page.json())
        after = page.headers.get("X-Pagination-Next")
        if after is None:
            return count


async def main(messages: int, events: int) -> None:
    with running(kinds(kafka=None)[0], Path(tempfile.gettempdir()) / "threadlog-bench-servers.log") as server:
        await measure(server.url, messages, events)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--events", type=int, default=5000)
    given = parser.parse_args()
    asyncio.run(main(given.messages, given.events))
