"""The documentation as a site: it is built strictly, needs no other host, and its diagrams are drawn."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.docs.pages import ROOT
from tests.js.test_smoke import chromium, install
from threadlog.deploy.cli_page import page as cli_page

__all__ = ["chromium"]

LOADS = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, with the script for its diagrams."""
    install(ROOT / "deploy" / "docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "deploy/docs/mkdocs.yml", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def diagrams(site: Path) -> dict[str, int]:
    """How many diagrams are on which pages of the site."""
    counts = {page: page.read_text().count('<pre class="mermaid">') for page in site.rglob("index.html")}
    return {str(page.parent.relative_to(site)): count for page, count in counts.items() if count}


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.server
@pytest.mark.timeout(400)
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {page: page.read_text() for page in site.rglob("*.html")}
    assert {"start", "moving", "concepts", "architecture", "reference/events"} <= {
        str(page.parent.relative_to(site)) for page in pages
    }
    assert not [f"{page}: {host}" for page, html in pages.items() for host in LOADS.findall(html)]
    assert not [page for page, html in pages.items() if "<!-- run" in html or "<!-- not run" in html]


@pytest.mark.server
@pytest.mark.timeout(400)
async def test_diagrams_are_drawn_without_another_host(diagrams: dict[str, int], url: str, chromium: str) -> None:
    assert diagrams
    asked: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = await browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        for page, count in diagrams.items():
            await tab.goto(f"{url}/{page}/")
            await tab.wait_for_function(  # the theme puts the drawing in the place of the text
                "count => count == [...document.querySelectorAll('div.mermaid')].filter(it => it.clientHeight > 50)"
                ".length",
                arg=count,
                timeout=60_000,
            )
        await browser.close()
    assert not [request for request in asked if not request.startswith((url, "data:", "blob:"))]


def test_the_page_of_the_command_line_is_current() -> None:
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == cli_page(), "python -m threadlog.deploy.cli_page >docs/reference/cli.md"
