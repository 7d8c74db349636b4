"""Large records: what would hold a loop for long is done in pieces, in a thread, or by a worker process.

Commands and events are large because of what a client sends for its graph (`input`, `values` of a state update). Nobody
looks into that before an executor does, so a reader keeps it as JSON text (`orjson.Fragment`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import orjson

from threadlog.engine.domain.text import has_nul, without_nul
from threadlog.engine.offload.carved import Place, carve
from threadlog.engine.offload.process import LARGE_BYTES, OffloadFailed, call

log = logging.getLogger(__name__)

_BYTES_PER_SECOND = 1_000_000  # a busy machine's, through encoding, compression, log and read models

_PIECE_BYTES = 1024 * 1024
_OVERLAP = len(rb"\u0000") - 1


def longer(seconds: float, size: int) -> float:
    """The time limit for what usually takes less than `seconds`, of so many bytes."""
    return seconds if size <= LARGE_BYTES else seconds + size / _BYTES_PER_SECOND


async def holds_nul(value: bytes) -> bool:
    """`has_nul` of JSON of any size."""
    if len(value) <= LARGE_BYTES:
        return has_nul(value)
    for start in range(0, len(value), _PIECE_BYTES):
        if has_nul(value[start : start + _PIECE_BYTES + _OVERLAP]):
            return True
        await asyncio.sleep(0)
    return False


async def command_fields(value: bytes) -> Any:
    """The JSON of a command, its NUL characters replaced.

    Raises:
        ValueError: it is not JSON.
    """
    return await _read(value, "command")


async def event_fields(value: bytes) -> Any:
    """The JSON of an event record. Raises ValueError, as `command_fields`."""
    return await _read(value, "event")


async def _read(value: bytes, kind: str) -> Any:
    if len(value) > LARGE_BYTES:
        try:
            result = await call(f"{__name__}:read_carved", [value], kind)
        except OffloadFailed as error:  # it has to be read all the same, or its partition stands still
            log.warning("a large record holds up this process: %s", error)
        else:
            if "problem" in result:
                raise ValueError(result["problem"])
            if "value" in result:
                return result["value"]
    return _parsed(value, kind)


def _parsed(value: bytes, kind: str) -> Any:
    return orjson.loads(without_nul(value) if kind == "command" else value)


def read_carved(value: bytes, kind: str) -> list[bytes]:
    """In the worker process: `{"value"}` with its payloads carved, `{"problem"}`, or neither."""
    try:
        read = _parsed(value, kind)
        places = _of_command(read) if kind == "command" else _of_event(read)
        return carve({"value": read}, [("value", *place) for place in places])
    except ValueError as error:
        return carve({"problem": str(error)}, ())
    except TypeError:  # nested deeper than can be written: to be read in place, and judged as a small one is
        return carve({}, ())


def _of_command(read: Any) -> Iterator[Place]:
    if isinstance(read, dict) and isinstance(body := read.get("body"), dict):
        yield from (("body", *place) for place in _payloads(body))
        yield from (("body", *place) for place in _of_event(body))  # of an import


def _of_event(read: Any) -> Iterator[Place]:
    events = read.get("events") if isinstance(read, dict) else None
    for index, event in enumerate(events if isinstance(events, list) else ()):
        if isinstance(event, dict):
            yield from (("events", index, *place) for place in _payloads(event))


def _payloads(message: dict[str, Any]) -> Iterator[Place]:
    """Of `run.create`, `state.update` and of the events that say so."""
    run = message.get("run")
    kwargs = run.get("kwargs") if isinstance(run, dict) else None
    if isinstance(kwargs, dict):
        yield from (("run", "kwargs", name) for name in ("input", "command") if name in kwargs)
    steps = message.get("supersteps")
    for i, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict) and "updates" in step:
            yield ("supersteps", i, "updates")
