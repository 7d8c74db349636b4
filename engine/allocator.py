"""The C allocator's memory, given back to the system: glibc keeps what large blocks have left.

glibc takes a block that is larger than a threshold from the system and returns it when it is freed; but it raises
the threshold to the largest block that was freed so far, up to 32 MB, and what is below comes from heaps that shrink
only at their ends. A process that has handled a few bodies of 30 MB then holds hundreds of MB. Other allocators are
left alone.
"""

from __future__ import annotations

import ctypes
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BYTES = 1024 * 1024  # the page faults of a block from the system cost 0.1 ms per MB: as much as to fill it
_KEPT_BYTES = 16 * 1024 * 1024  # at the end of the heap; the default, 128 KiB, would be given and taken all the time


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)


def return_large_blocks() -> None:
    """From now on this process returns each block above 1 MiB when it is freed.

    Not for processes that run graphs, whose libraries may count on the default.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim() -> None:
    """Return the free pages that there are, wherever they are: some 10 ms for 100 MB."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)
