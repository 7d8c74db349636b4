"""The community's chat pages: Agent Chat UI as it is published, and what the Agent Inbox asks a server for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.installed import needs
from tests.js.test_smoke import FOLDER, chromium, install, installed

__all__ = ["chromium", "installed"]

pytestmark = pytest.mark.js


@pytest.fixture(scope="session")
def agent_chat() -> Path:
    return install(FOLDER / "agent_chat")


@pytest.mark.timeout(500)
def test_agent_chat_ui(agent_chat: Path, chromium: str, server: Any, tmp_path: Path) -> None:
    command = ["node", "drive.mjs", server.url, chromium, str(tmp_path)]
    done = subprocess.run(command, cwd=agent_chat, capture_output=True, text=True, check=False, timeout=450)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nthe server: {getattr(server, 'output', '')[-4000:]}"
    assert "the page raised" not in done.stdout, done.stdout
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 11


@needs("langchain", "1.0")
def test_what_the_agent_inbox_asks_for(installed: Path, server: Any) -> None:
    command = ["node", "inbox.mjs", server.url]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^ok ", done.stdout, re.M)) == 9
