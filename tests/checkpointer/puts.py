"""Putting and finding checkpoints by hand, for tests of the checkpointer."""

from __future__ import annotations

import random
import uuid
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from tests.checkpointer.checkpointer_harness import Run


def thread_id() -> str:
    return str(uuid.uuid4())


async def put(
    run: Run, values: dict[str, Any], changed: list[str] | None = None, parent: str | None = None, ns: str = ""
) -> str:
    """Put a checkpoint of these channel values; returns its id."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, 1)
    versions = dict.fromkeys(values if changed is None else changed, 1)
    config: Any = {"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ns}}
    if parent is not None:
        config["configurable"]["checkpoint_id"] = parent
    put = await run.saver.aput(config, checkpoint, {"source": "loop", "step": 0}, versions)  # type: ignore[arg-type]
    return str(put["configurable"]["checkpoint_id"])


def at(run: Run, checkpoint_id: str | None = None, ns: str = "") -> Any:
    configurable = {"thread_id": run.thread_id, "checkpoint_ns": ns}
    return {"configurable": configurable if checkpoint_id is None else {**configurable, "checkpoint_id": checkpoint_id}}


def blobs(run: Run) -> list[dict[str, Any]]:
    return [blob for item in run.reported for blob in item.get("blobs", ())]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


class NoPool:
    """Fails whoever asks the database."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("nothing has to be read")


def without_database(run: Run) -> Run:
    run.saver._loader._pool = NoPool()  # type: ignore[assignment]
    return run
