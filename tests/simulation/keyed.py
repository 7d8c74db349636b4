"""Requests with an idempotency key in the simulation: clients that send them again, also while the first api is at
work, apis that die at any step, and what the accepted log has to say of it in the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from threadlog.engine.domain.commands import (
    AnswerRequest,
    BeginRequest,
    Command,
    CreateRun,
    CreateThread,
    DeleteThread,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.keyed_request import KEYED, keyed_command_id, keyed_expiry
from threadlog.engine.ids import keyed_id
from threadlog.engine.log.records import EventRecord

REQUESTS = 24
MARGIN = 3600  # seconds after its time that a command is kept in the read model
STEP_CHANCE = 0.5  # of an api's per step of the scenario
DEATH_CHANCE = 0.04
THREADS = 5
SILENT = {"command.rejected", "command.repeated", "report.fenced", "history.imported"}

Sent = tuple[str, Command]  # with the command's id
Step = Iterator[Sent | None]


@dataclass
class KeyedTables:
    """`keyed_requests` and `keyed_commands` of a partition, and what was refused: what a sender is told."""

    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: dict[str, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def decided(self, record: EventRecord, without: Callable[[dict[str, Any]], bool]) -> None:
        now = datetime.fromisoformat(record.at) if record.at and record.events else None
        for event in record.events:
            match event["type"]:
                case "request.begun":
                    assert now is not None
                    self.requests = {
                        id: row for id, row in self.requests.items() if datetime.fromisoformat(row["expires_at"]) > now
                    }
                    self.requests[event["request_id"]] = {**event, "answer": None}
                case "request.answered":
                    if (row := self.requests.get(event["request_id"])) is not None:
                        row["answer"] = (event["status"], event["body"])
        if record.cmd_id.startswith(KEYED) and now is not None:
            counted = [event["type"] for event in record.events if not without(event)]
            if "command.rejected" in counted:
                self.refused[record.cmd_id] += 1
            if not SILENT.issuperset(counted):
                expires_at = keyed_expiry(record.cmd_id)
                assert expires_at is not None
                over = now.timestamp() - MARGIN
                self.commands = {id: until for id, until in self.commands.items() if until > over}
                self.commands[record.cmd_id] = expires_at


class KeyedClients:
    """Of a random generator of its own, as the store's."""

    def __init__(self, random: random.Random) -> None:
        self.random = random
        self.apis: list[tuple[str, Step]] = []
        self.made = 0
        self.sent = 0
        self.closing = False
        self.answers: dict[tuple[str, str], set[Any]] = {}
        self._tables: Sequence[KeyedTables] = ()
        self._now = datetime.min

    def step(self, tables: Sequence[KeyedTables], now: datetime) -> Iterable[Sent]:
        """What apis send now."""
        self._tables, self._now = tables, now
        rnd = self.random
        if self.closing:
            for api in list(self.apis):
                yield from self._proceed(api)
            return
        if rnd.random() >= STEP_CHANCE:
            return
        if not self.apis or rnd.random() < 0.15:
            if self.made < REQUESTS and rnd.random() < 0.5:
                self.made += 1
            if self.made:
                request_id = f"r{rnd.randrange(max(0, self.made - 6) if rnd.random() < 0.5 else 0, self.made)}"
                self.apis.append((request_id, self._carried_out(request_id)))
        if self.apis:
            api = rnd.choice(self.apis)
            if rnd.random() < DEATH_CHANCE:
                self.apis.remove(api)
            else:
                yield from self._proceed(api)

    def _proceed(self, api: tuple[str, Step]) -> Iterable[Sent]:
        try:
            sent = next(api[1])
        except StopIteration:
            self.apis.remove(api)
        else:
            if sent is not None:
                yield sent

    # --- one api, as `api.idempotency` -------------------------------------------------------------------------------

    def _carried_out(self, request_id: str) -> Step:
        row = self._row(request_id)
        if row is None:
            ttl = timedelta(seconds=40 if request_id in ("r0", "r1") else 9999)
            begin = BeginRequest(
                request_id=request_id, fingerprint="f", begun_at=_iso(self._now), expires_at=_iso(self._now + ttl)
            )
            yield self._next_id(), begin
            while (row := self._row(request_id)) is None:
                if self.closing or self.random.random() < 0.05:
                    return  # the client has left, or sends it again
                yield None
        if row["answer"] is None:
            status = 200
            for id, command in self._effects(request_id, row):
                if self._applied(id):
                    continue
                refused = self._refused(id)
                yield id, command
                while not self._applied(id) and self._refused(id) == refused:
                    if self._row(request_id) is None:
                        return  # the key has expired, so its commands are not to be seen any more
                    if self.random.random() < 0.02:
                        yield id, command
                    yield None
                if not self._applied(id):
                    status = 409
                    break
            begun_at = row["begun_at"]
            yield (
                self._next_id(),
                AnswerRequest(
                    request_id=request_id, fingerprint="f", begun_at=begun_at, status=status, body=self._next_id()
                ),
            )
            while row is not None and row["begun_at"] == begun_at and row["answer"] is None:
                yield None
                row = self._row(request_id)
        if row is not None and row["answer"] is not None:
            self.answers.setdefault((request_id, row["begun_at"]), set()).add(row["answer"])

    def _effects(self, request_id: str, row: dict[str, Any]) -> list[Sent]:
        n = int(request_id[1:])
        thread_id = f"00000000-0000-4000-8000-{n % THREADS:012d}"
        begun_at = datetime.fromisoformat(row["begun_at"])
        run_id, made = keyed_id(request_id, begun_at, 0), keyed_id(request_id, begun_at, 1)
        effects: list[list[Command]] = [
            [CreateRun(thread_id=thread_id, run_id=run_id, graph_id="g", run={}, create_thread={}, new_thread=n > 8)],
            [UpdateThread(thread_id=thread_id, metadata={request_id: 1})],
            [
                CreateThread(thread_id=made),
                UpdateThread(thread_id=made, metadata={"n": n}),
                DeleteThread(thread_id=made),
            ],
            *[[WriteItems(namespace=["keyed"], ops=[{"key": request_id, "value": {"n": n}}])]] * 3,
        ]
        until = int(datetime.fromisoformat(row["expires_at"]).timestamp())
        return [(keyed_command_id(request_id, until, c.type), c) for c in effects[n % len(effects)]]

    def _row(self, request_id: str) -> dict[str, Any] | None:
        rows = (tables.requests.get(request_id) for tables in self._tables)
        row = next((row for row in rows if row is not None), None)
        return row if row is not None and datetime.fromisoformat(row["expires_at"]) > self._now else None

    def _applied(self, id: str) -> bool:
        return any(id in tables.commands for tables in self._tables)

    def _refused(self, id: str) -> int:
        return sum(tables.refused[id] for tables in self._tables)

    def _next_id(self) -> str:
        self.sent += 1
        return f"keyed client {self.sent}"


def check(records: Iterable[EventRecord], clients: KeyedClients) -> int:
    """I18 of the accepted records of all partitions; returns how many requests were answered."""
    effects: Counter[str] = Counter()
    answered: dict[str, int] = {}
    begun: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.cmd_id.startswith(KEYED) and any(event["type"] not in SILENT for event in record.events):
            effects[record.cmd_id] += 1
        for event in record.events:
            if event["type"] == "request.begun":
                last = begun.get(event["request_id"])
                assert last is None or last["expires_at"] <= record.at, f"I18: {event} begins twice"
                begun[event["request_id"]] = event
                answered[event["request_id"]] = 0
            elif event["type"] == "request.answered":
                answered[event["request_id"]] += 1
                assert answered[event["request_id"]] == 1, f"I18: {event} is another answer"
    twice = [id for id, n in effects.items() if n > 1]
    assert not twice, f"I18: {twice} took effect twice"
    for request, answers in clients.answers.items():
        assert len(answers) == 1, f"I18: {request} was answered {answers}"
    return len(clients.answers)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
