"""What an executor is told from outside."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.executor.admission import SHORT_TICKS
from threadlog.engine.executor.leases import LEASE_SECONDS, RENEW_SECONDS
from threadlog.engine.executor.reporting.outgoing import AppendLimits
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.user_code.store_config import StoreConfig


def new_executor_id() -> str:
    return f"executor-{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """Everything an executor is told from outside.

    `api_url`: where user code reaches the api. `log_in_database`: the log is in the Postgres of `database_uri`, so
    claims need not be flushed to disk. `grace_seconds`: what runs get to reach a superstep in, when the process has to
    stop. `thread_stop_seconds`: how long a stopped run keeps its slot for nodes that still run in (Python) threads.
    `loop_yield`: nodes that stream from threads let the event loop go first (`engine.executor.loop_yield`).
    `link`: the socket of the engine's `engine.link.server.ExecutorChannelServer`, if it is on this machine. `busy()` is
    called once, from any thread, when others could help: runs work side by side, or user code blocks the loop.
    `short_ticks`: see `engine.executor.admission`. `poll_seconds`: how often it looks for what notifications may have
    missed. `cancel_again_seconds`: how long a cancelled node may swallow the cancellation before the next.
    `alive(executor_id)` is called on the loop about twice a second while it goes round: for a parent that renews the
    lease while this interpreter cannot. `store`: the section `store` of `langgraph.json`,
    `embedder` that of its index. `keyring`: with which content is encrypted; None: it is not.
    """

    database_uri: str
    executor_id: str = field(default_factory=new_executor_id)
    slots: int = 512
    timeout_seconds: float = 86_400.0
    grace_seconds: float = 180.0
    thread_stop_seconds: float = 30.0
    loop_yield: bool = True
    api_url: str = "http://127.0.0.1:2024"
    log_in_database: bool = False
    hide_errors: bool = False
    pool_size: int = 8
    lease_seconds: float = LEASE_SECONDS
    renew_seconds: float = RENEW_SECONDS
    append_limits: AppendLimits = field(default_factory=AppendLimits)
    short_ticks: int = SHORT_TICKS
    poll_seconds: float = 1.0
    cancel_again_seconds: float = 5.0
    link: Path | None = None
    busy: Callable[[], None] | None = None
    alive: Callable[[str], None] | None = None
    store: StoreConfig = field(default_factory=StoreConfig)
    embedder: Embedder | None = None
    keyring: Keyring | None = None
