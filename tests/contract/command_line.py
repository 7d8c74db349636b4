"""What `threadlog` prints beside a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.servers import Server


async def printed(server: Server, *arguments: str, code: int = 0) -> str:
    done = await asyncio.to_thread(server.threadlog, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


async def objects(server: Server, *arguments: str) -> list[Any]:
    return [json.loads(line) for line in (await printed(server, *arguments, "--json")).splitlines()]
