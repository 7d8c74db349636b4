"""A reader who does all that a page says, in order, in a folder of their own with a small application in it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import jsonschema
import yaml
from langgraph_sdk import get_client

from tests import servers
from tests.data_folders import initialise
from tests.docs.output import missing_line
from tests.docs.pages import ROOT, Part
from tests.waiting import eventually
from threadlog.api.app import ROUTES
from threadlog.api.http.openapi import describe
from threadlog.engine.user_code.langgraph_json import load
from threadlog.engine.user_code.langgraph_keys import KEYS

APP = Path(__file__).parent / "app"
STAND_INS = Path(__file__).parent / "stand_ins"  # commands that would take minutes, or not return
SHOWN_PLACES = ("127.0.0.1:2024", "localhost:2024")
SHELL_SECONDS = 120  # far more than anything takes, but on a very busy machine
NOT_LOOKED_AT = "nothing looks at this block: see tests/docs/pages.py for the comments `run` and `json`"
_SHELLS = ("sh", "bash", "console")


class Reader:
    """Follows pages; `names` are what Python on the page, and in its comments, finds.

    | name | |
    |---|---|
    | `url`, `client`, `thread_id`, `database_uri` | the server that runs, the public client, a new thread |
    | `folder` | where the reader is; files of the page are written to it, its commands run in it |
    | `serve(**env)` | starts a server of the folder's langgraph.json, in place of the one before |
    | `shell(command)` | runs a command there, and returns what it printed |
    | `eventually(probe, holds)` | `tests.waiting` |
    | `printed`, `shown` | what the last block printed; the value of the last JSON block |
    """

    def __init__(self, node_modules: Callable[[], Path]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tl-docs-"))
        shutil.copytree(APP, self.folder, dirs_exist_ok=True)
        (self.folder / "deploy").symlink_to(ROOT / "deploy")
        self._node_modules = node_modules
        self._sees_the_first_start = False
        self._server: servers.Server | None = None
        self._started: servers.Server | None = None
        self._files: list[Part] = []  # written since a server or a test has loaded them
        self._config: Part | None = None  # the same of langgraph.json
        self._json: Part | None = None  # what a comment has to look at
        self._exports: dict[str, str] = {}
        self._environ = dict(os.environ)
        self.names: dict[str, Any] = {
            "__name__": "__main__",
            "folder": self.folder,
            "serve": self.serve,
            "shell": self.shell,
            "printed": "",
            "eventually": eventually,
        }

    async def meet(self, server: servers.Server) -> None:
        """From now on this is the server of the page."""
        self._server = server
        client = get_client(url=server.url)
        thread = await client.threads.create()
        self.names |= {"url": server.url, "client": client, "thread_id": thread["thread_id"]}
        self.names["database_uri"] = server.database_uri

    async def serve(self, *arguments: str, **env: str) -> None:
        await self._stop()
        data_dir = self.folder / ".threadlog"
        if "--data-dir" in arguments:
            data_dir = self.folder / arguments[arguments.index("--data-dir") + 1]
        is_new = not (data_dir / "postgres").exists() and "DATABASE_URI" not in self._exports | env
        if is_new and not self._sees_the_first_start:
            await asyncio.to_thread(initialise, data_dir)
        self._started = await asyncio.to_thread(
            servers.start,
            self.folder / "langgraph.json",
            env=self._exports | env,  # as in a terminal
            executors=None,
            data_dir=data_dir,
            arguments=arguments,
        )
        self._files, self._config = [], None
        self._server = self._started
        self.names |= {"url": self._started.url, "client": get_client(url=self._started.url)}
        self.names["database_uri"] = self._started.database_uri
        with contextlib.suppress(Exception):  # a server that asks who is there; the page sends what it wants
            self.names["thread_id"] = (await self.names["client"].threads.create())["thread_id"]

    async def close(self) -> None:
        try:
            await self._stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.environ.clear()
            os.environ.update(self._environ)

    async def _stop(self) -> None:
        if self._started is not None:
            started, self._started = self._started, None
            await asyncio.to_thread(started.end)

    async def follow(self, parts: list[Part]) -> None:
        """Do all of it. Raises an exception whose note names the place."""
        self._sees_the_first_start = any("creating the database" in part.text for part in parts)
        for part in parts:
            if part.not_run is not None:
                continue
            try:
                await self._do(part)
            except Exception as error:
                output = f"\nthe server: {self._started.output[-3000:]}" if self._started else ""
                error.add_note(f"{part.place}: ```{part.kind}\n{part.text}```{output}")
                raise
        await self._finish()

    async def _do(self, part: Part) -> None:
        if self._json is not None and (part.kind != "run" or "shown" not in part.text):
            raise self._json.wrong(NOT_LOOKED_AT)
        self._json = None
        if part.file is not None:
            path = self.folder / part.file
            known = part.file in {written.file for written in self._files}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if known else "") + part.text)
            self._files.append(part)
        elif part.kind in ("python", "run"):
            await self._python(part)
        elif part.kind in _SHELLS:
            await self._commands(part)
        elif part.kind in ("js", "javascript"):
            await self._javascript(part)
        elif part.kind == "json":
            self._look_at_json(part)
        elif part.kind == "sql":
            await self._sql(part)
        elif part.kind == "yaml":
            await self._yaml(part)
        elif part.kind in ("", "text"):
            self._compare(part, part.text)
        elif part.kind != "mermaid":  # tests/docs/test_site.py has the page drawn
            raise part.wrong(f"nothing runs {part.kind!r}")

    def _compare(self, part: Part, shown: str) -> None:
        missing = missing_line(shown, self.names["printed"])
        if missing is not None:
            raise part.wrong(f"the page shows\n{missing}\nand what came is\n{self.names['printed']}")

    # --- Python

    async def _python(self, part: Part) -> None:
        text = self._here(part.text)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * part.line + text, str(part.page), "exec", flags=flags, dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), self._importing():
            if code.co_flags & inspect.CO_COROUTINE:
                await eval(code, self.names)
            else:  # it may call asyncio.run
                await asyncio.to_thread(exec, code, self.names)
        if printed.getvalue():
            self.names["printed"] = printed.getvalue()

    @contextlib.contextmanager
    def _importing(self):
        """Modules of the folder can be imported, and are forgotten afterwards."""
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", "")).startswith(f"{self.folder}/"):
                    del sys.modules[name]

    # --- commands

    async def shell(self, command: str) -> str:
        done = await self._bash(command)
        self._files = [part for part in self._files if "pytest" not in command]
        self.names["printed"] = done
        return done

    async def _commands(self, part: Part) -> None:
        if part.kind != "console":
            await self.shell(self._here(part.text))
            return
        commands: list[tuple[str, list[str]]] = []
        for line in part.text.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif not commands:
                raise part.wrong("a console block begins with `$ command`")
            else:
                commands[-1][1].append(line)
        for command, shown in commands:
            await self.shell(self._here(command))
            self._compare(part, "\n".join(shown))

    async def _bash(self, command: str) -> str:
        """What a bash in the folder prints. `export` holds until the end of the page, as in a reader's terminal."""
        told = self.folder / ".reader"
        told.mkdir(exist_ok=True)
        for left in told.iterdir():
            left.unlink()
        process = await asyncio.create_subprocess_exec(
            "bash", "-eu", "-o", "pipefail", "-c", f"{command}\nexport -p >{told}/exports",
            cwd=self.folder, env=self._environment() | {"READER": str(told), "READER_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        ups = asyncio.create_task(self._start_what_it_asks_for(told))
        try:
            output, _ = await asyncio.wait_for(process.communicate(), SHELL_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, 9)
            raise AssertionError(f"not done after {SHELL_SECONDS} s: {command}") from None
        finally:
            ups.cancel()
        text = output.decode(errors="replace")
        assert process.returncode == 0, f"exit code {process.returncode} of {command}:\n{text}"
        for line in (told / "exports").read_text().splitlines():
            name, _, value = line.removeprefix("declare -x ").partition("=")
            if name.startswith(("THREADLOG_", "LANGGRAPH_", "DATABASE_URI", "KAFKA_")) or name.islower():
                self._exports[name] = value[1:-1]
        return text

    async def _start_what_it_asks_for(self, told: Path) -> None:
        """Starts the servers of `threadlog up` in a command: see stand_ins/threadlog."""
        while True:
            await asyncio.sleep(0.02)
            if not (told / "up.asked").exists():
                continue
            arguments = [word for word in (told / "up.arguments").read_text().splitlines() if word]
            variables = (told / "up.asked").read_text().split("\0")
            env = dict(line.split("=", 1) for line in variables if "=" in line)
            mine = {name: value for name, value in env.items() if os.environ.get(name) != value}
            for name in ("PATH", "READER", "READER_PYTHON", "THREADLOG_DATA_DIR", "THREADLOG_PORT", "SHLVL", "_"):
                mine.pop(name, None)
            (told / "up.asked").unlink()
            try:
                await self.serve(*arguments, **mine)
                assert self._started is not None
                (told / "up.lines").write_text(self._started.output + "\n")
                (told / "up.done").write_text("0")
            except Exception as error:
                (told / "up.lines").write_text(str(error))
                (told / "up.done").write_text("1")

    def _environment(self) -> dict[str, str]:
        env = servers.clean_environment()
        env |= {"PATH": f"{STAND_INS}:{Path(sys.executable).parent}:{env['PATH']}"}
        env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "THREADLOG_PORT": "0", "CURL_HOME": str(STAND_INS)}
        if self._server is not None and self._server is not self._started:
            env |= self._server._environment()
            env["THREADLOG_PORT"] = "0"
        names = {"THREAD": "thread_id", "RUN": "run_id", "POSITION": "position"}
        env |= {name: self.names[value] for name, value in names.items() if value in self.names}
        return env | self._exports

    def _here(self, text: str) -> str:
        for shown in SHOWN_PLACES:
            text = text.replace(shown, urlsplit(self.names["url"]).netloc if "url" in self.names else shown)
        return text

    async def _javascript(self, part: Part) -> None:
        link = self.folder / "node_modules"
        if not link.exists():
            link.symlink_to(await asyncio.to_thread(self._node_modules) / "node_modules")
        (self.folder / "page.mjs").write_text(self._here(part.text))
        await self.shell("node --experimental-websocket page.mjs")

    # --- what is no program

    def _look_at_json(self, part: Part) -> None:
        value = json.loads(part.text)
        self.names["shown"] = value
        if part.model is not None:
            described = describe(ROUTES, "docs")
            jsonschema.validate(value, {**described, "$ref": f"#/components/schemas/{part.model}"})
        elif isinstance(value, dict) and value.keys() & {key.split(".")[0] for key in KEYS}:
            whole = json.loads((APP / "langgraph.json").read_text()) | value
            (self.folder / "langgraph.json").write_text(json.dumps(whole))
            self._config = part
        else:
            self._json = part

    async def _sql(self, part: Part) -> None:
        assert self._server is not None
        connection = await asyncpg.connect(self._server.database_uri)
        try:
            self.names["shown"] = await connection.fetch(part.text)
        finally:
            await connection.close()

    async def _yaml(self, part: Part) -> None:
        for value in yaml.safe_load_all(part.text):
            self.names["shown"] = value
        self._json = part

    async def _finish(self) -> None:
        """What was written and nothing has loaded yet is loaded."""
        if self._json is not None:
            raise self._json.wrong(NOT_LOOKED_AT)
        if self._config is not None:
            load(self.folder / "langgraph.json")
        modules = dict.fromkeys(Path(part.file).stem for part in self._files if part.file and part.file.endswith(".py"))
        if modules:
            await self.shell(f"python -c 'import {', '.join(modules)}'")
