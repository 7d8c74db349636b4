"""Bundles of the application's components: made once, in the background of the start, and kept in memory."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import orjson
from aiohttp import web

from threadlog.api.http.errors import ApiError
from threadlog.engine.user_code.ui_section import UiSection

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 120.0  # for the bundler: a large project on a busy machine takes some ten
_SAID_CHARACTERS = 2000

Files = dict[str, bytes]


class UiBundles:
    """`section`: None where the application has no components."""

    def __init__(self, section: UiSection | None) -> None:
        self._section = section
        self._bundling: asyncio.Task[dict[str, Files]] | None = None

    async def start(self) -> None:
        if self._section is not None and not self._section.missing:
            self._bundling = asyncio.create_task(_bundled(self._section))

    async def close(self) -> None:
        if self._bundling is not None:
            self._bundling.cancel()
            with suppress(asyncio.CancelledError):
                await self._bundling

    async def files(self, name: str) -> Files | None:
        """The files of this name's bundle; None: there is none.

        Raises:
            ApiError: they could not be bundled.
        """
        if self._section is None or name not in self._section.sources:
            return None
        if self._bundling is None:
            raise ApiError(503, f"The components can't be bundled: {self._section.missing}")
        bundles = await asyncio.shield(self._bundling)
        if not bundles:
            raise ApiError(503, "The components could not be bundled: the server's log says why")
        return bundles.get(name)


async def _bundled(section: UiSection) -> dict[str, Files]:
    """The files of each bundle; empty when the bundler fails, which is in the log."""
    with tempfile.TemporaryDirectory(prefix="threadlog-ui-") as folder:
        process = await asyncio.create_subprocess_exec(
            section.node,
            str(section.bundler),
            "build",
            "--output",
            folder,
            cwd=section.folder,
            env={
                **os.environ,
                "LANGGRAPH_UI": orjson.dumps(dict(section.sources)).decode(),
                "LANGGRAPH_UI_CONFIG": orjson.dumps({"shared": list(section.shared)}).decode(),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _LONGEST_SECONDS)
        except TimeoutError:
            log.error("the components of `ui` are not served: the bundler took over %d s", _LONGEST_SECONDS)
            return {}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = said.decode(errors="replace").strip()[-_SAID_CHARACTERS:]
            log.error("the components of `ui` are not served: the bundler says\n%s", text)
            return {}
        return await asyncio.to_thread(_read, Path(folder, "public"), section)


def _read(folder: Path, section: UiSection) -> dict[str, Files]:
    return {
        name: {file.name: file.read_bytes() for file in sorted((folder / name).iterdir()) if file.is_file()}
        for name in section.sources
        if (folder / name).is_dir()
    }


BUNDLES: web.AppKey[UiBundles] = web.AppKey("ui bundles", UiBundles)
