"""What `ps` shows of a process."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path


def set_process_title(title: str) -> None:
    """Show `title` as this process's command line (cut to the length of the one it was started with; Linux only).

    As setproctitle(3) does: the text goes where the kernel put the arguments, and a last byte that is not zero tells it
    that they were replaced. Python has its own copy of them.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):  # a kernel that does not say where they are: the title stays
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        if (room := end - begin - 2) > 0:
            text = title.encode()[:room]
            ctypes.memmove(begin, text.ljust(end - begin - 1, b"\0") + b".", end - begin)
