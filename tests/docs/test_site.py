"""The documentation: the site is built strictly, what a reader would paste is well-formed, the first page works."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import Server
from threadlog.deploy.cli import main as threadlog

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md"))
SHAPES = ROOT / "docs" / "reference" / "http-api.md"  # its JSON has types in the place of values
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.M | re.S)
COMMANDS = re.compile(r"^ *(?:\$ )?threadlog ([a-z]+)", re.M)


def blocks(page: Path, language: str) -> list[str]:
    """The code of this language on a page, without the indentation that a list gives it."""
    found = [(indent, code) for indent, named, code in FENCE.findall(page.read_text()) if named == language]
    return ["\n".join(line.removeprefix(indent) for line in code.splitlines()) for indent, code in found]


@pytest.mark.server
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "deploy/docs/mkdocs.yml", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {str(page.parent.relative_to(tmp_path)) for page in tmp_path.rglob("index.html")}
    assert {"start", "moving", "concepts", "architecture", "reference/events"} <= built


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_reader_would_paste_is_well_formed(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code.replace("…", "..."), str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for code in blocks(page, "json") if page != SHAPES else ():
        json.loads(re.sub(r"(?<![:\"])//.*|…", "", code))
    for code in blocks(page, "yaml"):
        list(yaml.safe_load_all(code))
    for code in blocks(page, "toml"):
        tomllib.loads(code)


def test_commands_of_the_pages_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    named = {
        command
        for page in PAGES
        for language in ("sh", "bash", "console")
        for code in blocks(page, language)
        for command in COMMANDS.findall(code)
    }
    assert {"up", "doctor", "events"} <= named
    with pytest.raises(SystemExit):
        threadlog(["--help"])
    there = capsys.readouterr().out
    assert not [command for command in sorted(named) if not re.search(rf"\b{command}\b", there)]


async def test_the_first_five_minutes(own_server: Callable[..., Server], tmp_path: Path) -> None:
    page = ROOT / "docs" / "start.md"
    agent, talk = blocks(page, "python")
    (config,) = blocks(page, "json")
    (tmp_path / "agent.py").write_text(agent)
    (tmp_path / "langgraph.json").write_text(config)
    server = await asyncio.to_thread(own_server, tmp_path / "langgraph.json", executors=1)
    names: dict[str, Any] = {"__name__": "talk"}
    exec(talk, names)
    assert await names["main"](server.url) == "refunded"
    shown = await asyncio.to_thread(server.threadlog, "events")
    for wanted in ("run.created", "checkpoint.saved", "status=interrupted", "run.succeeded"):
        assert wanted in shown.stdout, shown.stderr
