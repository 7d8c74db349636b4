"""`threadlog build`: the image of an application, on the project's own image, run alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_sync_client

from tests.containers.engine import Engine
from tests.waiting import eventually_blocking

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3000)]

ROOT = Path(__file__).parent.parent.parent
POETRY = """
[tool.poetry]
name = "tools-of-ours"
version = "0.1"
description = ""
authors = []
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
AGENTS = ROOT / "deploy" / "examples" / "agents"


def test_an_application_becomes_an_image_that_runs_it(engine: Engine, tmp_path: Path) -> None:
    name = f"threadlog-{uuid.uuid4().hex[:8]}"
    base, image = f"{name}:base", f"{name}:app"
    for file in ("plain.py", "fake_model.py"):
        shutil.copy(AGENTS / file, tmp_path)
    (tmp_path / "requirements.txt").write_text("tabulate\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "pyproject.toml").write_text(POETRY)
    (tmp_path / "tools" / "tools_of_ours.py").write_text("")
    (tmp_path / ".env").write_text("SECRET=1\n")
    (tmp_path / ".dockerignore").write_text("**/.env\n")
    settings = {
        "dependencies": [".", "./tools"],
        "graphs": {"plain": "./plain.py:agent"},
        "env": ".env",
        "dockerfile_lines": ["RUN echo made > /made"],
    }
    (tmp_path / "langgraph.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        engine.docker("build", "-t", base, str(ROOT), seconds=1800)
        built = subprocess.run(
            [sys.executable, "-P", "-m", "threadlog.deploy.cli", "build", "-t", image, "--base-image", base],
            cwd=tmp_path, env={**os.environ, **engine.env}, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
        look = ("run", "--rm", image, "sh", "-c")
        imported = "python -c 'import tabulate, tools_of_ours'"
        assert engine.docker(*look, f"cat /made; ls -A /srv/app; id -un; {imported}").split() == [
            "made", ".dockerignore", "fake_model.py", "langgraph.json", "plain.py", "requirements.txt", "tools",
            "threadlog",
        ]  # fmt: skip
        engine.docker("run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:8000", image)
        url = engine.reach(port)
        eventually_blocking(
            lambda: httpx.get(f"{url}/ok", timeout=5).status_code == 200, within=120, passing=(httpx.HTTPError,)
        )
        client = get_sync_client(url=url)
        said = client.runs.wait(None, "plain", input={"messages": [{"role": "user", "content": "Hello, I am Ada"}]})
        assert said["messages"][-1]["content"] == "Nice to meet you, Ada."
    finally:
        for arguments in (("rm", "-f", name), ("rmi", "-f", image, base)):
            try:
                engine.docker(*arguments)
            except AssertionError:
                continue
