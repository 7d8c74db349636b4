"""What nodes did and when, written beside the server: one append-only file per thread that survives every crash."""

import json
import os
import time
from pathlib import Path
from typing import Any

FOLDER = "CHAOS_MARKS"  # the environment variable that names the folder


def mark(config: Any, what: str, step: int, **more: Any) -> None:
    """Append a line, in one write, so that lines of several processes never mix.

    SIGKILL can cut a write where it crosses a page, so a line begins a new one, whatever is before it.
    `at` is in nanoseconds of the system's monotonic clock, which all processes of a machine share.
    """
    ids = config["configurable"]
    line = {
        "at": time.monotonic_ns(),
        "run": ids["run_id"],
        "attempt": config["metadata"]["run_attempt"],
        "pid": os.getpid(),
        "what": what,
        "step": step,
        **more,
    }
    path = Path(os.environ[FOLDER]) / f"{ids['thread_id']}.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, b"\n" + json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)
