"""A folder through which a test and a node talk: the node says where it is, the test says when it may go on."""

import asyncio
import os
import time
from pathlib import Path

PATIENCE_SECONDS = 90  # a test that failed leaves nobody waiting for ever


def note(folder: str, word: str, run_id: str = "") -> None:
    """Append one line to the folder's journal; one write, so lines of several processes never mix."""
    line = f"{word} {run_id}\n".encode()
    descriptor = os.open(Path(folder) / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def is_open(folder: str, run_id: str) -> bool:
    """Whether the test has opened the gate, for all or for this run."""
    return (Path(folder) / "open").exists() or (Path(folder) / f"open-{run_id}").exists()


async def passage(folder: str, run_id: str) -> None:
    """Wait at the gate; a cancelled visitor needs a moment (with a file `linger`, a long one) to leave."""
    note(folder, "enter", run_id)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_open(folder, run_id):
            if time.monotonic() > deadline:
                raise TimeoutError("nobody opened the gate")
            await asyncio.sleep(0.01)
    except asyncio.CancelledError as cancelled:
        with (Path(folder) / f"reasons-{run_id}").open("a") as reasons:
            reasons.writelines(f"{reason!r}\n" for reason in cancelled.args)
        await asyncio.sleep(2.5 if (Path(folder) / "linger").exists() else 0.2)
        note(folder, "cancelled", run_id)
        raise
    finally:
        note(folder, "exit", run_id)


def blocking_passage(folder: str, run_id: str) -> None:
    """The same for a node that blocks its thread: it cannot be cancelled."""
    note(folder, "enter", run_id)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_open(folder, run_id) and time.monotonic() < deadline:
        time.sleep(0.01)
    note(folder, "exit", run_id)
