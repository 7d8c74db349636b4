"""The end of a process that other code waits for: told by the kernel where it can (Linux), else looked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

_LOOK_SECONDS = 0.2


async def ended(pid: int, lives: Callable[[], bool]) -> None:
    """Return when the child of this process with that pid has ended. `lives()`: whether it still runs."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, an old kernel, or it is gone
        while lives():
            await asyncio.sleep(_LOOK_SECONDS)
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        while lives():
            await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
