"""The committer of a log that is in Postgres: commands, events and read models move in one transaction.

The usual case is one statement: it appends the commands of this process and all decided records, checks that they got
the offsets they were decided for, moves the guarded partitions and writes the rows. Nothing is locked while deciding;
when others appended commands in between, the transaction rolls back, and a second one locks the heads first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from threadlog.engine.domain.store_namespace import PREFIX as NAMESPACE
from threadlog.engine.log.large import longer
from threadlog.engine.log.port import Append, AppendUnknown, LogUnavailable, Record, Topic
from threadlog.engine.log.postgres.append import UNSTAGED, Appended, Groups, OneCommand, group_of_any_size
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.log.records import EventRecord, RefusedEnvelope
from threadlog.engine.offload.process import LARGE_BYTES
from threadlog.engine.postgres.connection import PinnedConnection
from threadlog.engine.postgres.errors import AWAY, PASSING
from threadlog.engine.postgres.staging import may_stage, staged
from threadlog.engine.processor.committer import OnProjected, Submission, Turn, provide_states, take_over
from threadlog.engine.processor.ports import Batch, Decided, Executors, Stop, Unprojectable
from threadlog.engine.processor.run_ends import end_marks
from threadlog.engine.processor.term import Term, read_envelope
from threadlog.projections.commit.coordination import (
    LOAD,
    STATEMENT_SECONDS,
    PostgresCoordinationStore,
    applied_payload,
    fenced_by,
    moves,
    states_of,
)
from threadlog.projections.fold.batch import ReadValue
from threadlog.projections.fold.large_rows import LargeRows, without_large
from threadlog.projections.fold.project import (
    ARGUMENTS,
    PROJECT_ROWS,
    UNSTORABLE,
    fold,
    holds_large,
    one_statement,
    statements,
    unprojectable,
    write_rows,
)

log = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0

# In this order: the statement of an old term fails because it is fenced, not because the heads have moved.
_APPEND = "SELECT move_partitions($8), expect_offsets(log_append($1, $2, $3, $4, $5, $6), $7)"
_APPEND_STAGED = _APPEND.replace("$6", UNSTAGED)
_APPEND_ARGUMENTS = 8
# Of one command, as mostly.
_COMMIT_ONE = "SELECT commit_one($1, $2, $3, $4, $5, $6, $7, $8, $9)"
# Of a command for an aggregate that was taken to be unknown.
_COMMIT_UNKNOWN = _COMMIT_ONE + ", expect_unknown($10)"
_EXPECT_UNKNOWN = "SELECT expect_unknown($1)"


class SingleTransactionCommitter:
    """`engine.processor.committer.Committer` for a `PostgresLog` and the read models in the same database."""

    def __init__(
        self,
        source: PostgresLog,
        coordination: PostgresCoordinationStore,
        pool: asyncpg.Pool,
        read_value: ReadValue,
        *,
        projected: OnProjected,
        notify_applied: bool = True,
        executors: Executors | None = None,
    ) -> None:
        """One connection of `pool` is kept; it uses asyncpg's own codecs. `notify_applied`: others wait for commits.
        `executors`: those that are told what they can claim and have to stop; while there are none the database
        notifies (and always of the deletion of a thread: only its statement knows which runs are in flight)."""
        self._log, self._coordination, self._read_value = source, coordination, read_value
        self._projected, self._notify_applied = projected, notify_applied
        self._executors = executors
        self._connection = PinnedConnection(pool, self._prepare)
        self._prepared: dict[tuple[str, ...], Any] = {}  # by the head and the projections in it
        self.takes_for_new = False
        """Whether a namespace of the store that no term knows is taken for a new one, as the last one was: that saves a
        round trip, and the statement fails where it is known after all."""
        self._taken: tuple[Term, str] | None = None  # for new; the commit finds out
        self._load_states: Any = None
        self._held: dict[int, list[tuple[int, EventRecord, Submission]]] = {}
        # Of the transaction in flight, for the executors: how many runs they can claim, and those they have to stop.
        self._claimable = 0
        self._stops: dict[str, Stop | None] = {}

    @property
    def takes_submissions(self) -> bool:
        return True

    async def open(self, terms: Sequence[Term]) -> list[Submission]:
        await take_over(self._log, self._coordination, terms, self._projected)
        again: list[Submission] = []
        for term in terms:
            if not term.dead and term.partition in self._held:
                try:
                    again += await self._find_out(term.partition)
                except LogUnavailable:
                    term.fail()
        return again

    def abandon(self, partition: int) -> None:
        for _, _, submission in self._held.pop(partition, ()):
            if not submission.done.done():
                submission.done.set_exception(AppendUnknown("the database was lost in the middle of the transaction"))

    async def settle(self) -> None:
        """Nothing is ever in flight after `commit`."""

    async def aclose(self) -> None:
        await self._connection.drop()

    async def provide(self, turns: Sequence[Turn]) -> None:
        self._taken = self._new_namespace(turns) if self.takes_for_new else None
        if self._taken is not None:
            term, key = self._taken
            term.provide(key, None)
        await provide_states(self._coordination, turns, self._load)

    @staticmethod
    def _new_namespace(turns: Sequence[Turn]) -> tuple[Term, str] | None:
        """The aggregate of the turns' only command, if it is a namespace of which nothing is known here."""
        if len(turns) != 1 or turns[0].commands or len(turns[0].local) != 1:
            return None
        term, key = turns[0].term, turns[0].local[0].envelope.key
        return (term, key) if key.startswith(NAMESPACE) and term.missing([key]) else None

    async def _load(self, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """On the committer's own connection, which has nothing else to do meanwhile."""
        await self._connected()
        try:
            states = states_of(await self._load_states.fetch(list(keys), timeout=STATEMENT_SECONDS))
        except PASSING as error:
            self._log.lost()
            await self._connection.drop()
            raise LogUnavailable(f"the database is away: {error!r}") from error
        if namespaces := [key for key in keys if key.startswith(NAMESPACE)]:
            self.takes_for_new = not any(key in states for key in namespaces)
        return states

    async def commit(self, turns: Sequence[Turn]) -> None:
        try:
            await self._commit(turns)
        finally:
            self._load_instead()

    def _load_instead(self) -> None:
        """What was taken for new is not, or the commit has failed before that was known: its state has to be loaded."""
        if self._taken is not None:
            (term, key), self._taken = self._taken, None
            if not term.dead:
                term.forget(key)

    async def _commit(self, turns: Sequence[Turn]) -> None:
        try:
            await self._commit_alive(turns)
        except UNSTORABLE as error:
            if sum(len(turn.commands) + len(turn.local) for turn in turns) > 1:
                log.warning("a transaction can't be stored, going on one command at a time: %s", error)
                for turn in turns:
                    await self._one_by_one(turn)
            else:
                await self._commit_refused(turns[0], error)

    async def _one_by_one(self, turn: Turn) -> None:
        for command in turn.commands:
            await self.commit([Turn(turn.term, [command])])
        for submission in turn.local:
            await self.commit([Turn(turn.term, [], [submission])])

    async def _commit_refused(self, turn: Turn, error: Exception) -> None:
        """Decide a command whose result Postgres can't store to a refusal, so that it does not hold up the others."""
        reason = f"what follows from it can't be stored: {type(error).__name__}: {error}"
        if turn.commands:
            offset, envelope = turn.commands[0]
            turn = Turn(turn.term, [(offset, RefusedEnvelope.instead_of(envelope, reason))])
        else:
            envelope = turn.local[0].envelope
            turn.local[0].refuse(reason)
        log.error(
            "command %s (%s of %s) is refused: %s", envelope.id, envelope.type, envelope.key, reason,
            extra={**envelope.log_fields, "partition": turn.term.partition},
        )  # fmt: skip
        await self._commit_alive([turn])

    async def _commit_alive(self, turns: Sequence[Turn]) -> None:
        """Commit the turns whose terms live on; fenced ones are left out."""
        locked = False
        while alive := [turn for turn in turns if not turn.term.dead]:
            conn = await self._connected()
            attempt = _Attempt(self, conn, alive)
            try:
                await attempt.run(locked)
            except asyncpg.PostgresError as error:
                if isinstance(error, AWAY):
                    return await self._unknown(attempt, error)
                attempt.undo()
                if error.sqlstate == "TL002":
                    if locked:
                        # Not commands: a stale announcement is in `events`. The partitions are opened again behind it.
                        attempt.fail()
                    locked = True
                elif error.sqlstate == "TL003":
                    self.takes_for_new = False
                    self._load_instead()
                elif (fenced := fenced_by(error)) is not None:
                    for turn in alive:
                        if turn.term.partition in fenced.partitions:
                            turn.term.fail()
                    if not fenced.partitions:
                        raise
                elif isinstance(error, UNSTORABLE):
                    raise
                else:
                    raise LogUnavailable(f"the database did not take the transaction: {error!r}") from error
            except AWAY as error:
                return await self._unknown(attempt, error)
            except (LogUnavailable, Unprojectable):  # before anything was sent
                attempt.undo()
                raise
            except BaseException:
                await self._connection.drop()
                attempt.fail()
                raise
            else:
                self._taken = None  # it was right
                if self._executors is not None:
                    self._tell(self._executors)
                self._log.committed(attempt.appended, attempt.heads)
                for batch, term in attempt.batches:
                    term.projected(batch)
                    self._projected(batch, attempt.submissions.get(batch.partition, {}))
                return

    def _tell(self, executors: Executors) -> None:
        claimable, stops = self._claimable, self._stops
        self._claimable, self._stops = 0, {}
        if claimable:
            executors.wake(claimable)
        if stops:
            executors.stop(stops)

    async def _unknown(self, attempt: _Attempt, error: BaseException) -> None:
        """The connection broke before the commit was acknowledged. The terms end; `open` finds out from the log what is
        in it."""
        log.warning("the database was lost in the middle of a transaction: %r", error)
        self._log.lost()
        await self._connection.drop()
        for batch, _ in attempt.batches:
            submissions = attempt.submissions.get(batch.partition, {})
            for accepted in batch.records:
                submission = submissions.get(accepted.record.cmd_off)
                if submission is not None:
                    submission.held = True
                    self._held.setdefault(batch.partition, []).append((accepted.offset, accepted.record, submission))
        attempt.fail()

    async def _find_out(self, partition: int) -> list[Submission]:
        """Complete the held submissions that are in the log, and return the others. Called when the partition has been
        opened again."""
        again: list[Submission] = []
        for offset, record, submission in self._held[partition]:
            found = await self._log.read(Topic.EVENTS, partition, offset, end=offset + 1)
            if found and found[0].value == record.encode():
                if not submission.done.done():
                    submission.done.set_result(Decided(partition, offset, record.events, record.at, record.cmd_off))
            elif not submission.done.done():
                again.append(submission)
        for submission in again:
            submission.held = False
        del self._held[partition]
        return again

    async def _connected(self) -> Any:
        try:
            return await self._connection.get()
        except AWAY as error:
            self._log.lost()
            raise LogUnavailable(f"the database is away: {error!r}") from error

    async def _prepare(self, connection: Any) -> None:
        await self._log.hush(connection)
        self._prepared = {}
        self._load_states = await connection.prepare(LOAD)

    async def _statement(self, conn: Any, head: str, arguments: int, following: Sequence[tuple[str, list[Any]]]) -> Any:
        """Prepared: a head with so many arguments, and the projections behind it."""
        projections = [sql for sql, _ in following]
        statement = self._prepared.get((head, *projections))
        if statement is None:
            statement = self._prepared[head, *projections] = await conn.prepare(
                one_statement(head, arguments, projections)
            )
        return statement

    async def write(self, conn: Any, appends: Sequence[Append], expected: list[int], batches: list[Batch]) -> Appended:
        """Append and project, as one statement whenever the batch folds to one set of rows."""
        applied = applied_payload(batches) if self._notify_applied else None
        with unprojectable():
            folds = fold((batch.partition, batch.records) for batch in batches)
            for rows in folds:
                if rows.deferred_values:
                    await rows.fetch(self._read_value)
            wakes = self._executors is None or not self._executors.linked
            self._claimable = 0 if wakes else sum(rows.claimable for rows in folds)
            self._stops = {} if wakes else {run_id: stop for rows in folds for run_id, stop in rows.stops.items()}
            following = [
                one for rows in folds for one in statements(rows, applied if rows is folds[-1] else None, wakes=wakes)
            ]
        are_large = holds_large(following)
        if len(folds) == 1 and not are_large and (one := OneCommand.of(appends)) is not None:
            return await self._write_one(conn, one, batches[0], following)
        groups = await group_of_any_size(appends)
        first = (*groups.arguments, expected, moves(batches))
        size = sum(len(append.value) for append in appends)
        seconds = longer(COMMIT_SECONDS, size)
        if size > LARGE_BYTES:
            await asyncio.sleep(0)  # others' turn: to make rows of it took a while
        are_large = are_large or groups.are_large
        if len(folds) == 1 and not are_large and self._taken is None:
            statement = await self._statement(conn, _APPEND, _APPEND_ARGUMENTS, following)
            answer = await statement.fetchval(*first, *_arguments(following), column=1, timeout=seconds)
            return groups.appended(answer)
        async with conn.transaction():
            if self._taken is not None:
                await conn.execute(_EXPECT_UNKNOWN, self._taken[1], timeout=COMMIT_SECONDS)
            together = following.pop(0)[1] if following[0][0] is PROJECT_ROWS else [None] * ARGUMENTS
            if are_large and await may_stage(conn):
                large = without_large(together)
                bases = await self._write_large(conn, groups, first, large, seconds)
            else:
                statement = await self._statement(conn, _APPEND, _APPEND_ARGUMENTS, [(PROJECT_ROWS, together)])
                bases = await statement.fetchval(*first, *together, column=1, timeout=seconds)
            await _write_following(conn, following, seconds)
        return groups.appended(bases)

    async def _write_one(
        self, conn: Any, one: OneCommand, batch: Batch, following: Sequence[tuple[str, list[Any]]]
    ) -> Appended:
        p, epoch, log_epoch, event, command = moves([batch])[0]
        first: tuple[Any, ...] = (p, epoch, log_epoch, command, event, one.key, one.command, one.event, one.frames)
        head = _COMMIT_ONE
        if self._taken is not None:
            head, first = _COMMIT_UNKNOWN, (*first, self._taken[1])
        statement = await self._statement(conn, head, len(first), following)
        answer = await statement.fetchval(*first, *_arguments(following), timeout=COMMIT_SECONDS)
        return one.appended(command, event, answer)

    async def _write_large(
        self,
        conn: Any,
        groups: Groups,
        first: tuple[Any, ...],
        large: LargeRows,
        seconds: float,
    ) -> Any:
        """Append and project the first rows, large values in pieces: others of this process get their turn between."""
        appended, values = groups.staged()
        arguments = (*appended, *first[len(appended) :], *large.arguments)
        async with staged(conn, [*values, *large.values], seconds):
            statement = one_statement(_APPEND_STAGED, _APPEND_ARGUMENTS, [PROJECT_ROWS])
            bases = await conn.fetchval(statement, *arguments, column=1, timeout=seconds)
            for sql in large.fill:
                await conn.execute(sql, timeout=seconds)
        return bases


def _arguments(following: Sequence[tuple[str, list[Any]]]) -> Iterator[Any]:
    return (argument for _, arguments in following for argument in arguments)


async def _write_following(conn: Any, following: Sequence[tuple[str, list[Any]]], seconds: float) -> None:
    for sql, arguments in following:
        if sql is PROJECT_ROWS:
            await write_rows(conn, arguments, seconds=seconds)
        else:
            await conn.execute(sql, *arguments, timeout=seconds)


class _Attempt:
    """One transaction: what was decided for it, and what undoes that in the terms."""

    def __init__(self, committer: SingleTransactionCommitter, conn: Any, turns: Sequence[Turn]) -> None:
        self._committer, self._conn, self._turns = committer, conn, turns
        self.batches: list[tuple[Batch, Term]] = []
        self.submissions: dict[int, dict[int, Submission]] = {}
        self.appended: list[Record] = []  # the commands and frames of this process, as they are in the log
        self.heads: dict[tuple[Topic, int], int] = {}  # the next offset of every topic-partition appended to

    async def run(self, locked: bool) -> None:
        if not locked:
            return await self._decide_and_write()
        async with self._conn.transaction():
            await self._read_what_is_new()
            await self._decide_and_write()

    def undo(self) -> None:
        """Retract the decisions: nothing of them is in the database."""
        for turn in self._turns:
            if not turn.term.dead:
                turn.term.retract()

    def fail(self) -> None:
        for turn in self._turns:
            turn.term.fail()

    async def _read_what_is_new(self) -> None:
        """Lock the heads of `commands` where this process appends, and add to the turns what others have appended."""
        source = self._committer._log
        with_local = [turn for turn in self._turns if turn.local]
        await source.lock_heads_in(self._conn, Topic.COMMANDS, sorted(turn.term.partition for turn in with_local))
        while behind := {
            (Topic.COMMANDS, turn.term.partition): (turn.commands[-1][0] if turn.commands else turn.term.decided) + 1
            for turn in with_local
        }:
            found = await source.read_many_in(self._conn, behind)
            for turn in with_local:
                records = found[Topic.COMMANDS, turn.term.partition].records
                place = (turn.term.partition, source.partitions)
                turn.commands += [(r.offset, await read_envelope(r.value, r.key, place)) for r in records]
            with_local = [
                turn for turn in with_local if (one := found[Topic.COMMANDS, turn.term.partition]).upto < one.head
            ]

    async def _decide_and_write(self) -> None:
        # Of commands that were read with the heads locked; the others' have been provided.
        await provide_states(self._committer._coordination, self._turns)
        appends: list[Append] = []
        expected: dict[tuple[Topic, int], int] = {}
        for turn in self._turns:
            term, p = turn.term, turn.term.partition
            event_offset = term.read_from
            decided: list[EventRecord] = []
            for offset, envelope in turn.commands:
                if (record := term.decide(offset, envelope)) is not None:
                    decided.append(record)
            if turn.local:
                first = expected[Topic.COMMANDS, p] = term.decided + 1
                self.submissions[p] = {}
                for offset, submission in enumerate(turn.local, first):
                    envelope = submission.envelope
                    record = term.decide(offset, envelope)
                    assert record is not None
                    decided.append(record)
                    self.submissions[p][offset] = submission
                    appends.append(Append(Topic.COMMANDS, p, envelope.key, submission.value))
                    appends += submission.frames
            if not decided:
                continue
            expected[Topic.EVENTS, p] = event_offset
            for offset, record in enumerate(decided, event_offset):
                appends.append(Append(Topic.EVENTS, p, record.key, record.encode()))
                appends += end_marks(record, p, term.acked(offset, record))
            batch = term.batch(len(decided))
            assert batch is not None
            self.batches.append((batch, term))
        if self.batches:
            firsts = [expected[place] for place in sorted(expected)]
            written = await self._committer.write(self._conn, appends, firsts, [batch for batch, _ in self.batches])
            for append, offset in zip(appends, written.offsets, strict=True):
                self.heads[append.topic, append.partition] = offset + 1
                if append.topic is not Topic.EVENTS:
                    self.appended.append(
                        Record(append.topic, append.partition, offset, append.key, append.value, written.at_ms)
                    )
