"""The executor's end of the link to the engine of the same machine (`engine.link.server`): appends, and being woken."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadlog.engine.link.framing import Framed
from threadlog.engine.log.port import Append, AppendUnknown, Log, LogUnavailable, Topic
from threadlog.engine.processor.ports import Stop

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 15.0  # the engine gives up after 10
_AGAIN_SECONDS = 0.2
_REFUSALS = 100  # of the last commands that were refused: who sent one asks at once
_ERRORS = {"unknown": AppendUnknown, "unavailable": LogUnavailable}


@dataclass(slots=True)
class _Unanswered:
    """An append that the engine has not answered yet."""

    records: Sequence[Append]
    offsets: asyncio.Future[list[int]]
    overdue: asyncio.TimerHandle


class ExecutorChannel:
    """Connects to the engine and connects again, until closed; appends go straight to the log while there is no link.

    `wake()`: there may be something to claim; `stop(run_id, how)`: if that run is here, it has to stop (`how` is None:
    perhaps, the queue row says it); `load()`: how many attempts there are; `lost()`: the link broke, perhaps because
    the database did.
    """

    def __init__(
        self,
        path: Path,
        log: Log,
        *,
        wake: Callable[[], None],
        stop: Callable[[str, Stop | None], None],
        load: Callable[[], int],
        lost: Callable[[], None],
    ) -> None:
        self._path, self._log = path, log
        self._wake, self._stop, self._load, self._lost = wake, stop, load, lost
        self._framed: Framed | None = None
        self._gone = asyncio.Event()
        self._number = 0
        self._waiting: dict[int, _Unanswered] = {}
        self._applied: dict[int, int] = {}  # per partition the last command that was answered: it is projected
        self._elsewhere: dict[int, int] = {}  # per partition the last command that went to the log without the link
        self._refusals: OrderedDict[tuple[int, int], str] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Linked when this returns, if the engine is there."""
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried), name="link")
        await tried.wait()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def append(self, records: Sequence[Append]) -> asyncio.Future[list[int]]:
        """As `Log.append` of stream records and commands; through the link the offsets of stream records are -1, and
        the records have left when this returns."""
        framed = self._framed
        loop = asyncio.get_running_loop()
        if framed is None:
            return loop.create_task(self._append_to_log(records))
        self._number += 1
        number = self._number
        framed.send(["append", number, self._load(), [[r.topic.value, r.partition, r.key, r.value] for r in records]])
        offsets: asyncio.Future[list[int]] = loop.create_future()
        self._waiting[number] = _Unanswered(records, offsets, loop.call_later(_ANSWER_SECONDS, self._overdue, number))
        return offsets

    async def _append_to_log(self, records: Sequence[Append]) -> list[int]:
        offsets = await self._log.append(records)
        for record, offset in zip(records, offsets, strict=True):
            if record.topic is Topic.COMMANDS:
                self._elsewhere[record.partition] = max(offset, self._elsewhere.get(record.partition, -1))
        return offsets

    def _answered(self, number: int, offsets: list[int], refused: list[tuple[int, str]]) -> None:
        """`offsets`: of the commands; `refused`: which of them were, and why."""
        append = self._waiting.pop(number, None)
        if append is None:
            return
        append.overdue.cancel()
        places = [record.partition for record in append.records if record.topic is Topic.COMMANDS]
        for p, offset in zip(places, offsets, strict=True):
            self._applied[p] = max(offset, self._applied.get(p, -1))
        for index, why in refused:
            self._refusals[places[index], offsets[index]] = why
            while len(self._refusals) > _REFUSALS:
                self._refusals.popitem(last=False)
        if not append.offsets.done():
            append.offsets.set_result([-1] * (len(append.records) - len(offsets)) + offsets)

    def _failed(self, number: int, error: Exception) -> None:
        append = self._waiting.pop(number, None)
        if append is not None:
            append.overdue.cancel()
            if not append.offsets.done():
                append.offsets.set_exception(error)

    def _overdue(self, number: int) -> None:
        self._failed(number, AppendUnknown(f"the engine did not answer in {_ANSWER_SECONDS:g} s"))

    def has_applied(self, partition: int, offset: int) -> bool:
        """Whether it is known that the command at this offset is in the read models: the engine has answered it."""
        return offset <= self._applied.get(partition, -1)

    def has_answered(self, partition: int, offset: int) -> bool:
        """Whether the engine has answered this very command, or a later one while none went another way."""
        return self.has_applied(partition, offset) and offset > self._elsewhere.get(partition, -1)

    def refusal(self, partition: int, offset: int) -> str | None:
        """Why an answered command was refused, if it was; told once."""
        return self._refusals.pop((partition, offset), None)

    @property
    def linked(self) -> bool:
        """Whether the engine is at the other end."""
        return self._framed is not None

    def claimed(self) -> None:
        """What there was to claim has been claimed."""
        if self._framed is not None:
            self._framed.send(["claimed", self._load()])

    # --- the connection

    async def _run(self, tried: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._gone.clear()
            try:
                _, framed = await loop.create_unix_connection(
                    lambda: Framed(self._received, self._closed), str(self._path)
                )
            except OSError as error:
                logger.debug("no link to the engine yet: %s", error)
                tried.set()
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            self._framed = framed
            tried.set()
            self._wake()  # from now on the engine may notify nobody else
            try:
                await self._gone.wait()
            finally:
                framed.close()

    def _closed(self) -> None:
        self._framed = None
        self._gone.set()
        for number in list(self._waiting):
            self._failed(number, AppendUnknown("the link to the engine broke before it answered"))
        self._lost()
        self._wake()

    def _received(self, message: Any) -> None:
        match message:
            case ["done", number, offsets, refused]:
                self._answered(number, offsets, refused)
            case ["failed", number, why, text]:
                self._failed(number, _ERRORS.get(why, ValueError)(text))
            case ["wake"]:
                self._wake()
            case ["stop", runs]:
                for run_id, stop in runs.items():
                    self._stop(run_id, stop)
