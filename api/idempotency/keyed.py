"""One attempt to carry out a request with an idempotency key: its ids and those of its commands follow from the key.

The key is claimed in the log (`request.begin`) before the first command of the request is sent, so a request that is
refused before leaves nothing. Another attempt, at whichever api, derives the same ids from what was claimed: what the
first one has done is recognised, what it has not is done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson

from threadlog.api.auth.caller import ACTOR
from threadlog.api.context import Api
from threadlog.api.http.errors import ApiError
from threadlog.api.http.responses import time_text
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import BeginRequest, Command, ImportCheckpoints
from threadlog.engine.domain.events import CommandRepeated, RequestBegun
from threadlog.engine.domain.keyed_request import keyed_command_id
from threadlog.engine.encryption.content import has_content
from threadlog.engine.ids import keyed_id
from threadlog.engine.processor.ports import Decided
from threadlog.projections.queries import keyed_requests as queries

_REPEATED = CommandRepeated.type
# What tells two commands of one aggregate apart.
_PARTS = ("run_id", "job_id")


class Overtaken(BaseException):
    """Another attempt has claimed the key first: this one has done nothing, and starts anew with what was claimed.

    Not an `Exception`: no handler may make an answer of it.
    """


def reused() -> ApiError:
    return ApiError(
        422,
        "The Idempotency-Key was used for another request: use a new key for each request, and the same one "
        "only to send it again unchanged",
        code="idempotency_key_reused",
    )


@dataclass(slots=True)
class KeyedAttempt:
    """`request_id`, `fingerprint`, `begun_at`, `expires_at`: as in `request.begin`. `resumed`: they were claimed
    before, so some of the commands may have been carried out."""

    request_id: str
    fingerprint: str
    begun_at: datetime
    expires_at: datetime
    resumed: bool
    claimed: bool = False
    _overtaken: bool = False
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)
    _made: int = 0
    _sent: Counter[str] = field(default_factory=Counter)
    _threads: set[str | None] = field(default_factory=set)
    _owners: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.claimed = self.resumed

    def make_id(self) -> str:
        """The id of the next thing that the request makes."""
        self._made += 1
        return keyed_id(self.request_id, self.begun_at, self._made)

    async def submit(self, api: Api, command: Command) -> Decided:
        """Send a command of the request; one that is known to have been carried out is not sent again, and is returned
        as repeated, with the time and place of its event record."""
        await self._claim(api)
        what = _what(command)
        id = self._id(what)
        decided = await self._known(api, id) if self.resumed else None
        if decided is None:
            decided = await api.gateway.submit(command, id=id, actor=ACTOR.get())
            if decided.events and decided.events[0]["type"] == _REPEATED:
                decided = await self._known(api, id) or decided
        self._owners.add(has_content(command) or getattr(command, "cron_id", None))
        self._threads.add(getattr(command, "thread_id", None))
        if decided.rejection is None:  # else the next one of its kind is another try, and not another command
            self._sent[what] += 1
        return decided

    async def has_done(self, api: Api, command: Command) -> bool:
        """Whether another attempt has had this command carried out. Call it before the command is submitted."""
        return self.resumed and await queries.command(api.pool, self._id(_what(command))) is not None

    async def has_done_something(self, api: Api) -> bool:
        """Whether any command of the request has been carried out."""
        prefix = keyed_command_id(self.request_id, self._until, "").rpartition(":")[0]
        return self.resumed and await queries.has_commands(api.pool, f"{prefix}:")

    @property
    def subject(self) -> tuple[str | None, bool]:
        """The thread whose content the answer may show, and whether it may show other content: as the commands tell."""
        if len(self._threads) == 1 and self._owners <= {None, *self._threads}:
            return next(iter(self._threads)), False
        return None, self._owners != {None}

    @property
    def _until(self) -> int:
        return int(self.expires_at.timestamp())

    def _id(self, what: str) -> str:
        return keyed_command_id(self.request_id, self._until, f"{what} {self._sent[what]}")

    async def _known(self, api: Api, id: str) -> Decided | None:
        row = await queries.command(api.pool, id)
        if row is None:
            return None
        return Decided(row["p"], row["ev_off"], [{"type": _REPEATED}], time_text(row["at"]))

    async def _claim(self, api: Api) -> None:
        async with self._claiming:  # a batch sends many commands at a time
            if self._overtaken:
                raise Overtaken
            if self.claimed:
                return
            begin = BeginRequest(
                request_id=self.request_id,
                fingerprint=self.fingerprint,
                begun_at=time_text(self.begun_at),
                expires_at=time_text(self.expires_at),
            )
            decided = await api.gateway.submit(begin, actor=ACTOR.get())
            if decided.rejection is not None:
                raise reused()
            self.claimed = any(event["type"] == RequestBegun.type for event in decided.events)
            if not self.claimed:
                self._overtaken = True
                raise Overtaken


def _what(command: Command) -> str:
    """Which of the request's commands it is, whoever carries it out."""
    parts: list[Any] = [command.type, decider.key_of(command), *(getattr(command, name, None) for name in _PARTS)]
    if isinstance(command, ImportCheckpoints):  # how a copy is divided depends on what is there by then
        parts.append(blake2b(orjson.dumps(command.items), digest_size=16).hexdigest())
    return orjson.dumps(parts).decode()


KEYED: ContextVar[KeyedAttempt | None] = ContextVar("keyed_request", default=None)
"""The keyed request that is being handled; None for one without a key."""


def make_id(usual: Callable[[], Any]) -> str:
    """The id of a new object: `usual()`, or the one that the request's idempotency key gives it."""
    keyed = KEYED.get()
    return str(usual()) if keyed is None else keyed.make_id()


async def was_done(api: Api, command: Command) -> bool:
    """Whether the request being handled has had this command carried out when it was sent before."""
    keyed = KEYED.get()
    return keyed is not None and await keyed.has_done(api, command)


async def has_done_something(api: Api) -> bool:
    """Whether the request being handled has changed something when it was sent before: its subject may be gone."""
    keyed = KEYED.get()
    return keyed is not None and await keyed.has_done_something(api)


def is_repeated(decided: Decided) -> bool:
    """Whether the command was carried out before; `at` and `offset` are those of that time."""
    return bool(decided.events) and decided.events[0]["type"] == _REPEATED
