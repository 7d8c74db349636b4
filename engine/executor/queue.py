"""Taking runs from the queue: one statement claims a batch and returns all that is needed to run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from threadlog.engine.encryption.cipher import is_token
from threadlog.engine.encryption.field_cipher import has_field_token
from threadlog.engine.postgres.connection import PinnedConnection
from threadlog.engine.postgres.listener import CHECK_SECONDS, NOTIFY, Listener

# Claims that are not flushed to disk (see `connect`) may be forgotten by a crash of the database. Two executors must
# not work on the same attempt, so nobody claims until all who are alive have claimed theirs again: the last argument.
_CLAIM = "SELECT * FROM claim_runs($1, $2, $3, $4, $5)"

_CHECK_IN = """
WITH here AS (INSERT INTO executors_here VALUES ($1) ON CONFLICT DO NOTHING),
again AS (
    UPDATE run_queue SET owner = $1
    FROM unnest($2::uuid[], $3::int[]) AS held (run_id, attempt)
    WHERE run_queue.run_id = held.run_id AND run_queue.attempt = held.attempt AND owner IS NULL
)
SELECT pg_notify('threadlog_queue', 'run')
"""

_GIVE_BACK = """
WITH given AS (
    UPDATE run_queue SET owner = NULL WHERE run_id = $2::uuid AND attempt = $3 AND owner = $1 RETURNING 1
)
SELECT pg_notify('threadlog_queue', 'run') FROM given
"""

_MINE = "SELECT run_id::text, attempt, cancel FROM run_queue WHERE owner = $1"

_CANCEL = """
SELECT cancel, r.cancel_reason FROM run_queue LEFT JOIN runs r USING (run_id) WHERE run_id = $1::uuid
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt to make. `kind`: `run`, or `state_update` with its job in `payload`."""

    run_id: str
    thread_id: str
    partition: int
    kind: str
    graph_id: str
    attempt: int
    fresh: bool
    payload: dict[str, Any]
    cancel: str | None
    assistant_id: str | None
    kwargs: dict[str, Any]
    metadata: dict[str, Any]
    temporary: bool
    encrypted_fields: frozenset[str] = frozenset()
    """Names of its fields that are encrypted where they are stored."""

    @property
    def trace(self) -> str | None:
        """The trace context of the request that has asked for it, where traces are made."""
        holder = self.kwargs if self.kind == "run" else self.payload.get("config") or {}
        trace = holder.get("trace")
        return trace if isinstance(trace, str) else None

    @property
    def unreadable(self) -> bool:
        """Its content is encrypted, and the key is not there."""
        updates = (u for step in self.payload.get("supersteps") or () for u in step.get("updates") or ())
        if any(is_token(value) for fields in (self.kwargs, *updates) for value in fields.values()):
            return True
        return bool(self.encrypted_fields and has_field_token(orjson.dumps(self._metadata)))

    @property
    def metadata_names(self) -> set[str]:
        """Names of the metadata that clients have given, and that are stored readable in any case."""
        return {name for metadata in self._metadata for name in metadata} - self.encrypted_fields

    @property
    def _metadata(self) -> list[dict[str, Any]]:
        of_update, config = self.payload.get("metadata"), self.payload.get("config") or {}
        return [self.metadata, of_update or {}, config.get("metadata") or {}]

    @property
    def log_fields(self) -> dict[str, object]:
        """What names the attempt in lines of the process's log."""
        return {
            "thread_id": self.thread_id,
            "run_id": self.run_id,
            "run_attempt": self.attempt,
            "graph_id": self.graph_id,
            "assistant_id": self.assistant_id,
        }


async def connect(
    dsn: str, *, durable: bool, name: str, connection_class: type[asyncpg.Connection] = asyncpg.Connection
) -> asyncpg.Connection:
    """A connection for the queue.

    With `durable` unset commits do not wait for the disk: with the log in the same Postgres, nothing an attempt reports
    can be on disk before its claim is, so a claim lost in a crash is one that nothing came of yet.
    """
    return await asyncpg.connect(
        dsn,
        server_settings={"application_name": name, "synchronous_commit": "on" if durable else "off"},
        command_timeout=30,
        connection_class=connection_class,
    )


class RunQueue:
    """The run queue as one executor sees it. Reconnects by itself; while the database is away calls raise.

    `held()`: the attempts `(run_id, attempt)` that this process has claimed and not lost, for when the database may
    have forgotten.
    """

    def __init__(
        self,
        dsn: str,
        *,
        graphs: Sequence[str],
        durable: bool,
        held: Callable[[], Iterable[tuple[str, int]]],
        connection_class: type[asyncpg.Connection] = asyncpg.Connection,
    ) -> None:
        """`connection_class`: of connections that decrypt what they read, where it is encrypted."""
        self._connection_class = connection_class
        self._dsn, self._graphs, self._durable, self._held = dsn, list(graphs), durable, held
        self._last_group = ""  # the fairness group that was served last: the next one has its turn
        self._connection = PinnedConnection(self._connect)
        self._here: str | None = None  # the executor that has checked in on this connection
        self._lock = asyncio.Lock()

    async def _connect(self) -> asyncpg.Connection:
        self._here = None
        return await connect(
            self._dsn, durable=self._durable, name="threadlog-executor", connection_class=self._connection_class
        )

    @asynccontextmanager
    async def _ready(self, owner: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        async with self._lock, self._connection.use() as connection:
            if owner is not None and owner != self._here:
                held = list(self._held())
                await connection.execute(_CHECK_IN, owner, [run for run, _ in held], [number for _, number in held])
                self._here = owner
            yield connection

    async def check_in(self, owner: str) -> None:
        """Take back what a crashed database forgot we had. Every call here does it once on each connection.

        To be called before `owner` registers: others do not claim while an executor is alive that has not checked in.
        """
        async with self._ready(owner):
            pass

    async def claim(self, owner: str, limit: int) -> list[Claim]:
        """Up to `limit` attempts, now this executor's: the most urgent, by turns of their fairness groups."""
        async with self._ready(owner) as connection:
            rows = await connection.fetch(_CLAIM, owner, self._graphs, limit, self._last_group, not self._durable)
        if rows:
            self._last_group = rows[-1]["fairness_group"]
        return [_claim(row) for row in rows]

    async def give_back(self, owner: str, run_id: str, attempt: int) -> None:
        """Make a row of ours free for anybody."""
        async with self._ready(owner) as connection:
            await connection.execute(_GIVE_BACK, owner, run_id, attempt)

    async def mine(self, owner: str) -> dict[str, tuple[int, str | None]]:
        """`run_id → (attempt, cancel)` of this executor's rows."""
        async with self._ready(owner) as connection:
            rows = await connection.fetch(_MINE, owner)
        return {row["run_id"]: (row["attempt"], row["cancel"]) for row in rows}

    async def cancel_of(self, run_id: str) -> tuple[str | None, str | None]:
        """How the run has to stop (interrupt, rollback, delete; `delete` too when its row is gone), and why."""
        async with self._ready() as connection:
            row = await connection.fetchrow(_CANCEL, run_id)
        return ("delete", None) if row is None else (row["cancel"], row["cancel_reason"])

    async def notify(self, channel: str) -> None:
        """Notify `channel` as others do: for the listener's proof that it hears."""
        async with self._ready() as connection:
            await connection.execute(NOTIFY, channel)

    async def aclose(self) -> None:
        await self._connection.aclose()


def queue_listener(
    dsn: str,
    queue: RunQueue,
    *,
    wake: Callable[[], None],
    cancel: Callable[[str], None],
    lost: Callable[[], None],
    check_seconds: float = CHECK_SECONDS,
) -> Listener:
    """Hears `threadlog_queue` on a connection of its own, and proves that every `check_seconds`.

    `wake()`: there may be something to claim. `cancel(run_id)`: look at that row. `lost()`: the database went away.
    """

    def heard(payload: str) -> None:
        for word in payload.split(","):
            if word.startswith("cancel:"):
                cancel(word.removeprefix("cancel:"))
            else:
                wake()

    return Listener(
        lambda: connect(dsn, durable=True, name="threadlog-executor-listen"),
        "threadlog_queue",
        heard,
        name="run queue",
        on_reconnect=wake,
        on_lost=lost,
        notify=queue.notify,
        check_every=check_seconds,
    )


def _claim(row: asyncpg.Record) -> Claim:
    return Claim(
        run_id=row[0],
        thread_id=row[1],
        partition=row[2],
        kind=row[3],
        graph_id=row[4],
        attempt=row[5],
        fresh=row[6],
        payload=_json(row[7]),
        cancel=row[8],
        assistant_id=row[9],
        kwargs=_json(row[10]),
        metadata=_json(row[11]),
        temporary=bool(row[12]),
        encrypted_fields=getattr(row, "encrypted_fields", frozenset()),
    )


def _json(text: str | None) -> dict[str, Any]:
    return orjson.loads(text) if text else {}
