"""The public JavaScript client against a real server: one conversation of everything."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.js


def install(folder: Path) -> Path:
    """The folder with its packages installed, exactly as locked; skips where Node.js or the registry is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("no Node.js: node and npm are not on the path")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"Node.js 20 or newer is needed, here is {version.strip()}")
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of pytest-xdist install one after another
        mark = folder / "node_modules" / ".installed"
        if not mark.exists() or mark.read_text() != wanted:
            install = subprocess.run(
                [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=170,
            )
            if install.returncode and re.search(r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|network", install.stderr):
                pytest.skip("the npm registry can't be reached")
            assert install.returncode == 0, install.stderr
            mark.write_text(wanted)
    return folder


@pytest.fixture(scope="session")
def installed() -> Path:
    return install(FOLDER)


@pytest.fixture(scope="session")
def browser_page() -> Path:
    return install(FOLDER / "browser")


@pytest.fixture(scope="session")
def chromium() -> str:
    # The shell first, which Playwright, too, takes where nothing is seen: a page costs it a third of the CPU.
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium on the path, and .ci/run installs it")
        pytest.skip("no Chromium on the path")
    return path


@pytest.mark.timeout(400)
def test_a_react_page_in_a_browser(browser_page: Path, chromium: str, server: Any, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    command = ["node", "drive.mjs", server.url, chromium, str(tmp_path)]
    done = subprocess.run(command, cwd=browser_page, capture_output=True, text=True, check=False, timeout=350)
    said = getattr(server, "output", "")[-4000:]  # of one that was given, nothing is known
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nthe server: {said}"
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 17


def test_the_event_streaming_protocol_works(installed: Path, server: Any) -> None:
    command = ["node", "--experimental-websocket", "events.mjs", server.url]  # which Node.js 20 hides without it
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 8


def test_the_javascript_client_works(installed: Path, server: Any) -> None:
    done = subprocess.run(
        ["node", "smoke.mjs", server.url], cwd=installed, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 13


def test_every_method_of_the_javascript_client_works(installed: Path, server: Any) -> None:
    command = ["node", "methods.mjs", server.url]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 6
