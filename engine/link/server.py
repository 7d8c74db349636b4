"""The link between the engine and the executors of one machine: a shortcut beside the log, for when it is in Postgres.

Without it an executor appends to the log, the database notifies the engine, and the engine reads the record back; a
new run wakes every executor, of which one finds it; and who has to stop one reads in its row how. Through the link an
executor hands its commands to the processor as the api of that process does (`Processor.submit`), its frames are
appended by the process that tails them, one executor is woken, and a cancel says all there is to say. Correctness does
not depend on it: what it carries is in the log before it is answered, and an executor whose link breaks appends by
itself (a command sent twice has the same id, a frame the same number) and looks for runs, and at its own, each second.

Messages: `["append", id, load, [[topic, partition, key, value], …]]` → `["done", id, offsets of the commands, [[index,
why], …] of those that were refused]` or `["failed", id, why, message]`; `["wake"]` → `["claimed", load]`;
`["stop", {run_id: [action, reason] | null}]`, to every executor. `load`: the attempts an executor has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from threadlog.engine.link.framing import Framed
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Topic
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.processor.committer import Reply
from threadlog.engine.processor.ports import Decided, Stop
from threadlog.engine.processor.processor import Processor
from threadlog.engine.processor.term import envelope_of

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 10.0
# An executor that has not claimed so long after it was woken is busy: the others are woken too.
_BUSY_SECONDS = 0.02
_BUSY_LOAD = 1_000_000
_TOPICS = {topic.value: topic for topic in Topic}


class ExecutorChannelServer:
    """The engine's end, `engine.processor.ports.Executors` for the committer. `start` it before the executors look for
    it; `aclose` it before the processor stops."""

    def __init__(self, source: PostgresLog, path: Path) -> None:
        self._log, self._path = source, path
        self._processor: Processor
        self._sessions: list[_Session] = []
        self._server: asyncio.Server | None = None

    async def start(self, processor: Processor) -> None:
        """Take connections; what executors hand in is submitted to `processor`."""
        self._processor = processor
        self._path.unlink(missing_ok=True)
        self._log.when_lost(self.sever)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, str(self._path))

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.close()
        self._path.unlink(missing_ok=True)

    def sever(self) -> None:
        """The database went away and may have forgotten frames: executors have to send them before anything else.

        What came through their links and is not in the log yet is dropped, so that nothing overtakes that.
        """
        for session in list(self._sessions):
            session.sever()

    @property
    def linked(self) -> bool:
        """Whether an executor is there to be woken."""
        return bool(self._sessions)

    @property
    def loads(self) -> list[int]:
        """Per executor, in the order they came, how many attempts it has said it works on."""
        return [session.load for session in self._sessions]

    def wake(self, runs: int) -> None:
        """So many runs can be claimed: tell as many executors, the least busy first."""
        for _ in range(min(runs, len(self._sessions))):
            min(self._sessions, key=_load).expected += 1
        for session in self._sessions:
            if session.expected:
                session.wake()

    def stop(self, runs: Mapping[str, Stop | None]) -> None:
        """Tell all: which executor has claimed a run is between it and the database."""
        for session in self._sessions:
            session.framed.send(["stop", runs])

    def _accept(self) -> Framed:
        session = _Session(self)
        self._sessions.append(session)
        return session.framed

    def left(self, session: _Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        if session.expected:
            self.wake_others(session)

    def wake_others(self, session: _Session) -> None:
        for other in self._sessions:
            if other is not session:
                other.wake()

    def take(self, records: Sequence[Append], reply: Callable[[], Reply]) -> asyncio.Task[list[int]] | None:
        """Have everything put into the log, and the commands decided and projected: `reply()` makes what is answered
        for each of these, in order. Returns the append of frames of threads without a command, if there are some.

        A thread's frames go with its first command, in one transaction. Raises, as the replies do, what `Log.append`
        does.
        """
        frames: dict[str, list[Append]] = {}
        for record in records:
            if record.topic is not Topic.COMMANDS:
                frames.setdefault(record.key, []).append(record)
        for record in records:
            if record.topic is Topic.COMMANDS:
                envelope = envelope_of(record.value, record.key)
                own = frames.pop(record.key, ())
                self._processor.hand_in(envelope, record.value, reply(), reported=True, frames=own)
        if not frames:
            return None
        loose = [record for own in frames.values() for record in own]
        return asyncio.get_running_loop().create_task(self._log.append(loose))


def _load(session: _Session) -> int:
    return session.load + session.expected


class _Session:
    """One executor's connection."""

    def __init__(self, server: ExecutorChannelServer) -> None:
        self._server = server
        self.framed = Framed(self._received, self._closed)
        self.load = 0  # attempts it has, as it last said
        self.expected = 0  # runs it was woken for since
        self._timer: asyncio.TimerHandle | None = None
        self._appends: set[_Appending] = set()

    def wake(self) -> None:
        self.framed.send(["wake"])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_BUSY_SECONDS, self._busy)

    def close(self) -> None:
        self.framed.close()

    def sever(self) -> None:
        self.framed.close()
        for append in list(self._appends):
            append.give_up("the link was severed")

    def _busy(self) -> None:
        self._timer = None
        if self.expected:
            self.expected = 0
            self.load += _BUSY_LOAD  # the last to be woken, until it says something
            self._server.wake_others(self)

    def _received(self, message: Any) -> None:
        match message:
            case ["append", id, load, records]:
                self.load = load
                _Appending(self, id, [Append(_TOPICS[t], p, key, value) for t, p, key, value in records])
            case ["claimed", load]:
                self.load, self.expected = load, 0
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            case _:
                log.warning("an executor said something unknown on its link")
                self.close()

    def _closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._server.left(self)

    def take(self, records: Sequence[Append], appending: _Appending) -> asyncio.Task[list[int]] | None:
        self._appends.add(appending)
        return self._server.take(records, appending.reply)

    def answer(self, appending: _Appending, answer: list[Any]) -> None:
        self._appends.discard(appending)
        with suppress(Exception):
            self.framed.send(answer)


class _Reply:
    """To one command of an append (`engine.processor.committer.Reply`)."""

    __slots__ = ("_appending", "_index")

    def __init__(self, appending: _Appending, index: int) -> None:
        self._appending, self._index = appending, index

    def done(self) -> bool:
        return self._appending.outcomes[self._index] is not None

    def set_result(self, decided: Decided) -> None:
        self._appending.settle(self._index, decided)

    def set_exception(self, error: Exception) -> None:
        self._appending.settle(self._index, error)


class _Appending:
    """One append of an executor: answers when all of it is done, in the call that says so of the last command. What the
    engine does after a transaction beside that, no executor waits for.

    Replies refer to it and it to none of them: cycles would wait for the garbage collector, whose pauses were seen in
    the p99 of runs.
    """

    def __init__(self, session: _Session, id: int, records: Sequence[Append]) -> None:
        self._session, self._id = session, id
        self.outcomes: list[Decided | Exception | None] = []  # of the commands, in order; None: not known yet
        self._failed: list[Exception] = []
        self._left = 1  # this call
        self._frames: asyncio.Task[list[int]] | None = None
        try:
            self._frames = session.take(records, self)
        except Exception as error:
            session.answer(self, self._failure([error]))
            return
        if self._frames is not None:
            self._left += 1
            self._frames.add_done_callback(self._appended)
        self._timer = asyncio.get_running_loop().call_later(DEADLINE_SECONDS, self._overdue)
        self._one_done()

    def reply(self) -> Reply:
        """To the next command."""
        self.outcomes.append(None)
        self._left += 1
        return _Reply(self, len(self.outcomes) - 1)

    def settle(self, index: int, outcome: Decided | Exception) -> None:
        """What became of a command."""
        self.outcomes[index] = outcome
        self._one_done(outcome if isinstance(outcome, Exception) else None)

    def give_up(self, why: str) -> None:
        """What is not in the log yet is dropped."""
        for index, outcome in enumerate(self.outcomes):
            if outcome is None:
                self.settle(index, AppendUnknown(why))
        if self._frames is not None:
            self._frames.cancel()

    def _overdue(self) -> None:
        self.give_up(f"the commands were not applied in {DEADLINE_SECONDS} s")

    def _appended(self, frames: asyncio.Task[list[int]]) -> None:
        if frames.cancelled():
            self._one_done(AppendUnknown("the append was given up"))
        else:
            error = frames.exception()
            self._one_done(error if isinstance(error, Exception) else None)

    def _one_done(self, error: Exception | None = None) -> None:
        if error is not None:
            self._failed.append(error)
        self._left -= 1
        if self._left == 0:
            self._timer.cancel()
            self._session.answer(self, self._answer())

    def _answer(self) -> list[Any]:
        if self._failed:
            return self._failure(self._failed)
        decided = [outcome for outcome in self.outcomes if isinstance(outcome, Decided)]  # all of them
        refused = [[i, rejection.detail] for i, one in enumerate(decided) if (rejection := one.rejection) is not None]
        return ["done", self._id, [one.cmd_off for one in decided], refused]

    def _failure(self, failed: Sequence[BaseException]) -> list[Any]:
        error: BaseException = failed[0]
        if len(self.outcomes) + (self._frames is not None) > 1:
            bug = next((one for one in failed if not isinstance(one, LogUnavailable)), None)
            error = bug or AppendUnknown(str(failed[0]))
        if isinstance(error, AppendUnknown):
            return ["failed", self._id, "unknown", str(error)]
        if isinstance(error, LogUnavailable):
            return ["failed", self._id, "unavailable", str(error)]
        log.error("records of an executor can't be taken", exc_info=error)
        return ["failed", self._id, "refused", f"{type(error).__name__}: {error}"]
