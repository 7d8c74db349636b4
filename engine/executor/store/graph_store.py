"""`runtime.store`: puts are commands that this executor appends, reads are the read models'. A put returns when it can
be read, by this node, the next one, and every client.

Of the operations that nodes of all runs ask for in one turn of the loop, reads by key are one query, and writes one
command per namespace. Usable from any thread and any event loop; the synchronous methods not on the executor's own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast

import orjson
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import Command
from threadlog.engine.domain.decider import key_of
from threadlog.engine.domain.store_limits import check_item_key, check_labels, check_ttl, check_value
from threadlog.engine.domain.store_namespace import namespace_text
from threadlog.engine.domain.text import storable
from threadlog.engine.encryption.content import CANT_BE_STORED
from threadlog.engine.encryption.field_cipher import has_field_token
from threadlog.engine.encryption.fields import FieldSealer
from threadlog.engine.executor.store.item_values import item_value
from threadlog.engine.executor.store.plain_puts import plain_puts
from threadlog.engine.ids import new_id
from threadlog.engine.log.records import CommandEnvelope, partition_of
from threadlog.engine.store import listing, reading
from threadlog.engine.store.embedding import Embedder, EmbeddingFailed, texts_of, vectors_of
from threadlog.engine.store.similarity import Run, nearest
from threadlog.engine.store.writing import ItemWrite, touch_commands, write_commands
from threadlog.engine.user_code.store_config import StoreConfig

logger = logging.getLogger(__name__)

Refusal = Callable[[int, int, str, str], Awaitable[str | None]]
"""`(partition, offset, key, id)` of a command: waits until it is in the read models; why it was refused, if it was."""

_BLOCKED_SECONDS = 60.0
_T = TypeVar("_T")


class CommandAppender(Protocol):
    """What the store needs of `reporting.appender.BatchingAppender`."""

    def command(self, partition: int, key: str, value: bytes) -> asyncio.Future[int]: ...


class GraphStore(BaseStore):
    """Made on the executor's event loop, one for all its graphs."""

    supports_ttl = True

    def __init__(
        self,
        *,
        db: reading.ItemReader,
        appender: CommandAppender,
        partitions: int,
        refusal: Refusal,
        config: StoreConfig,
        run: Run,
        embedder: Embedder | None = None,
        fields: FieldSealer | None = None,
    ) -> None:
        """`db`, and `run` with a connection of its own: the read models. `embedder`: of `store.index`, if any.
        `fields`: encrypts fields of items, in the context of the node that puts them."""
        super().__init__()
        self._run, self._embedder, self._fields = run, embedder, fields
        self._db, self._appender, self._partitions, self._refusal = db, appender, partitions, refusal
        self.ttl_config = TTLConfig(default_ttl=config.default_ttl, refresh_on_read=config.refresh_on_read)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._reads = _Turn(self._loop, self._read)
        self._writes = _Turn(self._loop, self._write)
        self._texts = _Turn(self._loop, self._embed)
        self._behind: set[asyncio.Task[None]] = set()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Raises asyncio.InvalidStateError on the event loop, which would have to wait for itself."""
        if threading.get_ident() == self._thread:
            raise asyncio.InvalidStateError(
                "A synchronous method of the store was called on the event loop, which it would block. "
                "In async nodes use `await store.aget(…)`, `aput`, `asearch`, `adelete` or `alist_namespaces`."
            )
        begun = threading.Event()
        done = asyncio.run_coroutine_threadsafe(self._begun(begun, list(ops)), self._loop)
        if not begun.wait(_BLOCKED_SECONDS):
            done.cancel()
            raise TimeoutError(
                f"The store has waited {_BLOCKED_SECONDS:g} s for the event loop, which is blocked, perhaps by an "
                "async node that waits for this thread. Use `await store.aget(…)` in async nodes."
            )
        return done.result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Reads see what was there before the writes of the same batch; of several puts of an item the last counts."""
        if threading.get_ident() == self._thread and asyncio.get_running_loop() is self._loop:
            return await self._batch(list(ops))
        work = asyncio.run_coroutine_threadsafe(self._batch(list(ops)), self._loop)
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Give up what is under way: the executor ends."""
        for turn in (self._reads, self._writes, self._texts):
            turn.close()
        for task in self._behind:
            task.cancel()

    async def _begun(self, begun: threading.Event, ops: list[Op]) -> list[Result]:
        begun.set()
        return await self._batch(ops)

    async def _batch(self, ops: Sequence[Op]) -> list[Result]:
        if self._embedder is None and self._fields is None and (command := plain_puts(ops)) is not None:
            await self._writes.alone(self._send(command))
            return [None] * len(ops)
        # Everything is checked before anything is done; of several puts of an item the last counts.
        namespaces: dict[Any, tuple[str, ...]] = {}
        writes = {op[:2]: (self._checked(op, namespaces), self._texts_of(op)) for op in ops if isinstance(op, PutOp)}
        reads = [(n, self._result(op)) for n, op in enumerate(ops) if not isinstance(op, PutOp)]
        results: list[Result] = [None] * len(ops)
        for (n, _), result in zip(reads, await _all([work for _, work in reads]), strict=True):
            results[n] = result
        if writes:
            embedded = [self._with_vectors(write, texts) for write, texts in writes.values() if texts]
            plain = [write for write, texts in writes.values() if not texts]
            together = [*plain, *await _all(embedded)]
            if self._fields is None or self._fields.idle:
                await self._writes.ask(together)
            else:  # not with what nodes of other runs put, who are other tenants perhaps
                for error in await self._writes.alone(self._write(together)):
                    if error is not None:
                        raise error
        return results

    def _checked(self, op: PutOp, namespaces: dict[Any, tuple[str, ...]]) -> ItemWrite:
        """Raises ValueError (TypeError for what is no JSON) when the item can't be stored."""
        write = _item_write(op, namespaces)
        if self._fields is not None and write.value is not None and has_field_token(orjson.dumps(write.value)):
            raise ValueError(CANT_BE_STORED)
        return write

    async def _result(self, op: Op) -> Result:
        match op:
            case GetOp():
                (row,) = await self._reads.ask([(_labels(op.namespace), storable(op.key))])
                if row is None:
                    return None
                self._refresh([row], op.refresh_ttl)
                return Item(**_fields(row))
            case SearchOp():
                return cast(Result, await self._search(op))
            case ListNamespacesOp():
                matches = [
                    listing.NamespaceMatch(match.match_type, _labels(match.path)) for match in op.match_conditions or ()
                ]
                found = await listing.namespaces(
                    self._db, matches, max_depth=op.max_depth, limit=op.limit, offset=op.offset
                )
                return [tuple(labels) for labels in found]
        raise TypeError(f"the store has no operation {type(op).__name__}")

    def _texts_of(self, op: PutOp) -> list[tuple[str, str]]:
        if self._embedder is None or op.value is None:
            return []
        return texts_of(op.value, op.index, self._embedder.config)

    async def _with_vectors(self, write: ItemWrite, texts: Sequence[tuple[str, str]]) -> ItemWrite:
        [vectors] = await self._texts.ask([tuple(text for _, text in texts)])
        return replace(write, vectors=vectors_of([path for path, _ in texts], vectors))

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        prefix, page = _labels(op.namespace_prefix), {"limit": op.limit, "offset": op.offset}
        if op.query and self._embedder is not None:
            vector = await self._embedder.query(op.query)
            rows = await nearest(self._run, vector, prefix, filter=op.filter, **page)
        else:
            rows = await reading.search(self._db, prefix, filter=op.filter, **page)
        self._refresh(rows, op.refresh_ttl)
        return [SearchItem(**_fields(row), score=row["score"]) for row in rows]

    # --- in one turn of the loop

    async def _read(self, items: Sequence[tuple[tuple[str, ...], str]]) -> list[reading.Row | None]:
        rows = await reading.get(self._db, list(dict.fromkeys(items)))
        return [rows.get((".".join(namespace), key)) for namespace, key in items]

    async def _embed(self, items: Sequence[tuple[str, ...]]) -> Sequence[list[list[float]] | BaseException]:
        """Vectors of the texts of each item. One whose texts can't be embedded fails alone: others may be of other
        runs."""
        assert self._embedder is not None
        distinct = list(dict.fromkeys(text for texts in items for text in texts))
        try:
            vectors = dict(zip(distinct, await self._embedder.documents(distinct), strict=True))
        except EmbeddingFailed:
            if len(items) == 1:
                raise
            each = (self._embedder.documents(texts) for texts in items)
            return await asyncio.gather(*each, return_exceptions=True)
        return [[vectors[text] for text in texts] for texts in items]

    async def _write(self, writes: Sequence[ItemWrite]) -> list[BaseException | None]:
        last = {(write.namespace, write.key): write for write in writes}
        commands = write_commands(last.values())
        if len(commands) == 1:  # as mostly; its error is that of all
            await self._send(commands[0])
            return [None] * len(writes)
        failed: dict[tuple[str, str], BaseException] = {}
        sent = await asyncio.gather(*(self._send(command) for command in commands), return_exceptions=True)
        for command, error in zip(commands, sent, strict=True):
            if error is not None:
                text = namespace_text(command.namespace)
                failed.update({(text, op["key"]): error for op in command.ops})
        return [failed.get((namespace_text(write.namespace), write.key)) for write in writes]

    async def _send(self, command: Command) -> None:
        """The command is in the log, and in the read models, when this returns.

        Raises ValueError when the engine, or the log, has refused it.
        """
        key = key_of(command)
        if self._fields is not None:
            command = await self._fields.sealed(command)
        partition = partition_of(key, self._partitions)
        envelope = CommandEnvelope.of(command, id=new_id(), key=key, at=utc_now())
        offset = await self._appender.command(partition, key, envelope.encode())
        refused = await self._refusal(partition, offset, key, envelope.id)
        if refused is not None:
            raise ValueError(refused)

    def _refresh(self, rows: Sequence[reading.Row], refresh: bool) -> None:
        """The time to live of what was read begins anew; the read does not wait for it."""
        for command in touch_commands(rows) if refresh else ():
            task = self._loop.create_task(self._send(command), name="store items were read")
            self._behind.add(task)
            task.add_done_callback(self._touched)

    def _touched(self, task: asyncio.Task[None]) -> None:
        self._behind.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("the time to live of items that were read does not begin anew: %s", error)


async def _all(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """`asyncio.gather`, without a task for a single one."""
    return [await one for one in work] if len(work) < 2 else await asyncio.gather(*work)


class _Turn:
    """Gathers what is asked for in one turn of the loop, and does it together. `work` returns a result for each, in
    order; one that is an exception is raised to its asker alone."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[Sequence[Any]], Coroutine[Any, Any, Sequence[Any]]]
    ) -> None:
        self._loop, self._work = loop, work
        self._asked: list[tuple[Sequence[Any], asyncio.Future[Sequence[Any]]]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def ask(self, what: Sequence[Any]) -> Sequence[Any]:
        """The results for these, in order. Raises the first of them that is an exception."""
        answer: asyncio.Future[Sequence[Any]] = self._loop.create_future()
        self._asked.append((what, answer))
        if len(self._asked) > 1:
            return await answer
        try:
            await asyncio.sleep(0)  # others ask meanwhile
        except asyncio.CancelledError:
            answer.cancel()
            self._begin()
            raise
        if len(self._asked) == 1:
            self._asked = []
            results = await self.alone(self._work(what))
            if (error := _failure(results)) is not None:
                raise error
            return results
        self._begin()
        return await answer

    async def alone(self, work: Awaitable[_T]) -> _T:
        """Not together with what others ask for, in the asker's own task: to make one costs as much as a command."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    def _begin(self) -> None:
        asked, self._asked = self._asked, []
        wanted = [(what, answer) for what, answer in asked if not answer.done()]
        if wanted:
            task = self._loop.create_task(self._do(wanted), name="store")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, asked: Sequence[tuple[Sequence[Any], asyncio.Future[Sequence[Any]]]]) -> None:
        everything = [one for what, _ in asked for one in what]
        try:
            results = await self._work(everything)
        except Exception as failed:
            results = [failed] * len(everything)
        except asyncio.CancelledError:
            for _, answer in asked:
                answer.cancel()
            raise
        at = 0
        for what, answer in asked:
            own, at = results[at : at + len(what)], at + len(what)
            if answer.done():
                continue
            if (error := _failure(own)) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(own)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


def _failure(results: Sequence[Any]) -> BaseException | None:
    """The first of them that is an exception."""
    return next((result for result in results if isinstance(result, BaseException)), None)


def _labels(namespace: Iterable[Any]) -> tuple[str, ...]:
    return tuple(storable(label) if isinstance(label, str) else label for label in namespace)


def _item_write(op: PutOp, namespaces: dict[Any, tuple[str, ...]]) -> ItemWrite:
    """`namespaces`: those of the batch that have been checked, by what its operations call them.

    Raises ValueError (TypeError for what is no JSON) when the item can't be stored."""
    namespace = namespaces.get(op.namespace)
    if namespace is None:
        namespace = _labels(op.namespace)
        if not namespace:
            raise ValueError("Namespace cannot be empty.")
        check_labels(namespace)
        namespaces[op.namespace] = namespace
    key = storable(op.key)
    check_item_key(key)
    if op.value is None:
        return ItemWrite(namespace, key)
    check_value(op.value)
    check_ttl(op.ttl)
    text = item_value(op.value)
    return ItemWrite(namespace, key, orjson.Fragment(text), op.ttl, size=len(text))


def _fields(row: reading.Row) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"].split(".")),
        "key": row["key"],
        "value": orjson.loads(row["value"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
