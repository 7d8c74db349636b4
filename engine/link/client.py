"""The executor's end of the link to the engine of the same machine (`engine.link.server`): appends, and being woken."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from threadlog.engine.link.framing import Framed
from threadlog.engine.log.port import Append, AppendUnknown, Log, LogUnavailable, Topic
from threadlog.engine.processor.ports import Stop

_Answer = tuple[list[int], list[tuple[int, str]]]  # the commands' offsets, and which of them were refused, and why

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 15.0  # the engine gives up after 10
_AGAIN_SECONDS = 0.2
_REFUSALS = 100  # of the last commands that were refused: who sent one asks at once
_ERRORS = {"unknown": AppendUnknown, "unavailable": LogUnavailable}


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
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}
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

    def append(self, records: Sequence[Append]) -> Coroutine[Any, Any, list[int]]:
        """As `Log.append` of stream records and commands; through the link the offsets of stream records are -1, and
        the records have left when this returns."""
        framed = self._framed
        if framed is None:
            return self._append_to_log(records)
        self._number += 1
        number = self._number
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        framed.send(["append", number, self._load(), [[r.topic.value, r.partition, r.key, r.value] for r in records]])
        return self._answered(number, answer, records)

    async def _append_to_log(self, records: Sequence[Append]) -> list[int]:
        offsets = await self._log.append(records)
        for record, offset in zip(records, offsets, strict=True):
            if record.topic is Topic.COMMANDS:
                self._elsewhere[record.partition] = max(offset, self._elsewhere.get(record.partition, -1))
        return offsets

    async def _answered(self, number: int, answer: asyncio.Future[_Answer], records: Sequence[Append]) -> list[int]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                offsets, refused = await answer
        except TimeoutError:
            raise AppendUnknown(f"the engine did not answer in {_ANSWER_SECONDS:g} s") from None
        finally:
            self._waiting.pop(number, None)
        places = [record.partition for record in records if record.topic is Topic.COMMANDS]
        for p, offset in zip(places, offsets, strict=True):
            self._applied[p] = max(offset, self._applied.get(p, -1))
        for index, why in refused:
            self._refusals[places[index], offsets[index]] = why
            while len(self._refusals) > _REFUSALS:
                self._refusals.popitem(last=False)
        return [-1] * (len(records) - len(offsets)) + offsets

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
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(AppendUnknown("the link to the engine broke before it answered"))
        self._lost()
        self._wake()

    def _received(self, message: Any) -> None:
        match message:
            case ["done", number, offsets, refused]:
                if (answer := self._waiting.get(number)) is not None and not answer.done():
                    answer.set_result((offsets, refused))
            case ["failed", number, why, text]:
                if (answer := self._waiting.get(number)) is not None and not answer.done():
                    answer.set_exception(_ERRORS.get(why, ValueError)(text))
            case ["wake"]:
                self._wake()
            case ["stop", runs]:
                for run_id, stop in runs.items():
                    self._stop(run_id, stop)
