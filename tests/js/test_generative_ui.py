"""Components of an agent: bundled by the server as it starts, and loaded by a page in a browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.js.test_smoke import FOLDER, chromium, install
from tests.servers import Server

__all__ = ["chromium"]

pytestmark = [pytest.mark.js, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def weather(start_server: Callable[..., Server]) -> Iterator[Server]:
    running = start_server(install(FOLDER / "generative_ui") / "langgraph.json", executors=1)
    yield running
    running.stop()


def test_a_page_shows_what_the_agent_shows(weather: Server, chromium: str, tmp_path: Path) -> None:
    command = ["node", "drive.mjs", weather.url, chromium, str(tmp_path)]
    done = subprocess.run(
        command, cwd=FOLDER / "generative_ui", capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nthe server: {weather.output[-4000:]}"
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 2


async def test_what_is_not_there_and_what_is_hostile(weather: Server) -> None:
    async with httpx.AsyncClient(base_url=weather.url, timeout=60) as http:
        for name in ("nobody", "00000000-0000-4000-8000-000000000000", "..%2Fweather"):
            answer = await http.post(f"/ui/{name}", json={"name": "forecast"})
            assert answer.status_code == 404 and answer.json()["code"] == "not_found", answer.text
        for file in ("nothing.js", "..%2Fschemas.json", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"):
            assert (await http.get(f"/ui/weather/{file}")).status_code == 404
        assert (await http.post("/ui/weather", json={})).status_code == 422
        script = await http.get("/ui/weather/entrypoint.js")
        assert script.status_code == 200 and "javascript" in script.headers["content-type"]
        hostile = "\"'><script>alert(1)</script>{{shadowRootId}}"
        tags = (await http.post("/ui/weather", json={"name": hostile})).text
        assert tags.count("<script") == 1 and tags.count("<link") == 1 and "'><" not in tags


def app_without_bundler(folder: Path, ui: str) -> Path:
    (folder / "agent.py").write_text((FOLDER / "generative_ui" / "weather.py").read_text())
    (folder / "ui.tsx").write_text("export default {};")
    config = folder / "langgraph.json"
    config.write_text(f'{{"graphs": {{"weather": "./agent.py:weather"}}, "ui": {ui}}}')
    return config


async def test_without_the_bundler_a_notice_says_so(own_server: Callable[..., Server], tmp_path: Path) -> None:
    running = own_server(app_without_bundler(tmp_path, '{"weather": "./ui.tsx"}'), executors=1)
    (notice,) = [line for line in running.lines if line.startswith("notice ")]
    assert re.search("npm install @langchain/langgraph-ui|Node.js is needed", notice), notice
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as http:
        answer = await http.post("/ui/weather", json={"name": "forecast"})
        assert answer.status_code == 503 and "can't be bundled" in answer.json()["detail"]
