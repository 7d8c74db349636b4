"""One-shot worker process: reads bytes, applies one function to them, writes what the function returns.

To parse JSON holds the interpreter until it is done, in whichever thread: 1 to 2 ms per MB of text, more if it has many
values. What is larger than `LARGE_BYTES` is therefore parsed in another process, which ends afterwards and takes the
memory with it. One at a time: the next caller waits, its loop does not.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, BinaryIO, cast

from threadlog.engine.offload.carved import restore

LARGE_BYTES = 2 * 1024 * 1024
"""Parsed in place up to here, which takes a core 20 ms at most, checks included; a process takes 100 ms to start."""

SECONDS = 120.0
"""A worker that has not ended by then is killed: 300 MB take it a few seconds."""

_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="threadlog-offload")


class OffloadFailed(Exception):
    """The worker process could not be started, or ended without a result: no memory, as a rule."""


async def call(function: str, parts: Sequence[bytes], *arguments: str) -> Any:
    """Returns what `function` ("module:name") has carved from the joined parts, see `engine.offload.carved`.

    Raises:
        OffloadFailed: there is no result. The function itself is written so that it does not raise.
    """
    return await asyncio.get_running_loop().run_in_executor(_worker, _call, function, parts, arguments)


def _call(function: str, parts: Sequence[bytes], arguments: Sequence[str]) -> Any:
    """In a thread. Files rather than pipes: they are written and read without the interpreter, in one piece."""
    try:
        with _file() as given, _file() as made, tempfile.TemporaryFile() as said:
            for part in parts:
                _write(given, part)
            given.seek(0)
            # -P: nothing in the application's folder is taken for a module of ours.
            command = [sys.executable, "-P", "-m", __name__, function, *arguments]
            try:
                code = subprocess.run(command, stdin=given, stdout=made, stderr=said, timeout=SECONDS).returncode
            except subprocess.TimeoutExpired:
                raise OffloadFailed(f"{function} did not end in {SECONDS:g} s") from None
            if code != 0:
                said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
                raise OffloadFailed(f"{function} ended with {code}: {said.read().decode(errors='replace').strip()}")
            made.seek(0)
            return restore(made)
    except OSError as error:
        raise OffloadFailed(f"{function} could not be called: {error}") from error


def _file() -> BinaryIO:
    """A file without a name: in memory where the system has such files, else in the folder for temporary ones."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("threadlog-offload"), "w+b", buffering=0)
    return cast(BinaryIO, tempfile.TemporaryFile(prefix="threadlog-offload-", buffering=0))


def _write(file: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def main() -> None:
    """The worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    gc.disable()
    module, _, name = sys.argv[1].partition(":")
    parts: list[bytes] = getattr(import_module(module), name)(sys.stdin.buffer.read(), *sys.argv[2:])
    sys.stdout.buffer.writelines(parts)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
