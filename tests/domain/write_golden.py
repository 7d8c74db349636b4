"""Writes golden commands and events: `python -m tests.domain.write_golden VERSION`, once per version of the catalogue.

Files that are there stay as they are: they are what logs hold that were written then.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from tests.domain.scenario import R1, R2, R3, R4, T, at, checkpoint, create, planned, report
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import (
    AnswerRequest,
    BeginRequest,
    CancelRun,
    CloseImport,
    Command,
    CreateAssistant,
    CreateCron,
    CreateRun,
    CreateThread,
    DeleteAssistant,
    DeleteCron,
    DeleteRun,
    DeleteThread,
    ExpireItems,
    ExpireLease,
    ExpireThread,
    FireCron,
    ImportCheckpoints,
    ImportHistory,
    PruneThread,
    RecordCronRun,
    RegisterGraph,
    ReportWebhook,
    RunDue,
    SetLatestAssistant,
    TouchItems,
    UpdateAssistant,
    UpdateCron,
    UpdateState,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.domain.decider import EMPTY, States
from threadlog.engine.domain.wire import event_to_wire
from threadlog.engine.log.records import CommandEnvelope, EventRecord

COPY = "00000000-0000-4000-8000-0000000000ac"
A = "00000000-0000-4000-8000-0000000000bb"
CRON = "00000000-0000-4000-8000-0000000000cc"
ERROR = {"error": "ValueError", "message": "kaboom"}
INTERRUPTS = {"task": [{"id": "i", "value": {"question": "ok?"}}]}
LONG_AGO = "2020-01-01T00:00:00.000000+00:00"
STARTED = {"executor": "x", "at": at(1)}
BLOB = {"h": "hash", "t": "msgpack", "d": "\x91\xa5hello"}
SAVED = {
    **checkpoint("cp1"), "parent_id": "cp0", "metadata": {"source": "loop", "step": 1}, "checkpoint": {"v": 4},
    "channels": {"messages": {"s": [["hash", 1]]}}, "blobs": [BLOB],
}  # fmt: skip
WRITES = {"kind": "writes", "checkpoint_id": "cp1", "task_id": "task", "writes": [[0, "messages", {"h": "hash"}]]}

MIGRATED = {"kind": "migrated", "checkpoint_id": "cp1", "graph_id": "g", "from_version": 1, "to_version": 3}


def hooked(run_id: str, **fields: Any) -> CreateRun:
    """A run with a webhook."""
    return CreateRun(
        thread_id=T, run_id=run_id, graph_id="g", run={"kwargs": {"webhook": "https://example.org/hook"}}, **fields
    )


def imported(key: str, offset: int, *events: dict[str, Any], **fields: Any) -> ImportHistory:
    return ImportHistory(
        key=key, source="elsewhere", partition=3, offset=offset, imported_at=at(30), imported_by="ops",
        events=[*events], **fields,
    )  # fmt: skip


RUN = {"thread_id": T, "run_id": R1}
STORIES: dict[str, list[Command]] = {
    "crons": [
        CreateCron(
            cron_id=CRON, assistant_id=A, schedule="* * * * * */9", timezone="Europe/Berlin", end_time=at(30),
            thread_id=T,
            payload={"input": {"x": 1}}, metadata={"team": "a"}, on_run_completed="keep", next_due_at=at(9),
        ),
        CreateThread(thread_id=T),
        FireCron(cron_id=CRON, due_at=at(9), run_id=R1, thread_id=T, next_due_at=at(18)),
        create(R1, cron_id=CRON, cron_due_at=at(9)),
        RecordCronRun(cron_id=CRON, due_at=at(9)),
        create(R3, multitask_strategy="reject", cron_id=CRON, cron_due_at=at(18)),
        FireCron(cron_id=CRON, due_at=at(18), run_id=R2, thread_id=T, schedule_error="none"),
        RecordCronRun(cron_id=CRON, due_at=at(18), error={"error": "conflict", "message": "busy"}),
        UpdateCron(
            cron_id=CRON, version=1, enabled=False, clears=["timezone"], metadata={"b": 1}, payload={"input": None},
            reschedules=True,
        ),
        DeleteCron(cron_id=CRON),
    ],
    "keyed_requests": [
        BeginRequest(request_id="a1", fingerprint="f", begun_at=at(1), expires_at=at(40)),
        BeginRequest(request_id="a1", fingerprint="other", begun_at=at(2), expires_at=at(41)),
        AnswerRequest(
            request_id="a1", fingerprint="f", begun_at=at(1), status=200, headers={"Location": "/x"}, body="{}",
        ),
        BeginRequest(request_id="a2", fingerprint="f", begun_at=at(4), expires_at=at(40)),
        AnswerRequest(request_id="a2", fingerprint="f", begun_at=at(4), status=204, complete=False),
    ],
    "crons_ended": [
        CreateCron(cron_id=CRON, assistant_id=A, schedule="* * * * *", end_time=LONG_AGO, next_due_at=LONG_AGO),
        FireCron(cron_id=CRON, due_at=LONG_AGO, run_id=R1, thread_id=T),
    ],
    "conversation": [
        CreateThread(thread_id=T, metadata={"user": "ann"}, ttl={"strategy": "delete", "ttl": 60}),
        create(R1, thread_metadata={"graph_id": "g"}, thread_config={"tags": ["a"]}, stream_from=7),
        report(R1, started=STARTED, items=[SAVED, WRITES, {**planned("ask"), "out": ["messages"]}]),
        report(R1, status="success", next=["ask"], interrupts=INTERRUPTS, frames=4),
        create(R2),
        report(R2, started=STARTED, items=[checkpoint("cp2"), planned(checkpoint_id="cp2")], status="success"),
        UpdateThread(thread_id=T, metadata={"title": "t"}),
        PruneThread(thread_id=T),
        CreateThread(thread_id=COPY, copied_from=T),
        ImportCheckpoints(thread_id=COPY, items=[SAVED, WRITES]),
        CreateThread(thread_id=T),
        DeleteThread(thread_id=T),
        report(R2, status="success"),
    ],
    "double_texting": [
        create(R1, create_thread={}),
        create(R2, due_at=at(40)),
        create(R3, multitask_strategy="interrupt"),
        report(R1, status="interrupted", next=["n"], frames=1),
        RunDue(thread_id=T, run_id=R2),
        CancelRun(thread_id=T, run_id=R3, action="rollback"),
        report(R3, status="interrupted"),
        create(R4, due_at=at(50)),
        create(R1.replace("0001", "0011")),
        RunDue(thread_id=T, run_id=R4),
        DeleteRun(thread_id=T, run_id=R1.replace("0001", "0011")),
        report(R1.replace("0001", "0011"), status="success"),
        CancelRun(thread_id=T, run_id=R4),
    ],
    "cancelling": [
        create(R1, create_thread={}),
        report(R1, started=STARTED, items=[SAVED, {**planned("n"), "out": ["messages"]}]),
        CancelRun(thread_id=T, run_id=R1, reason="the user has changed their mind"),
        create(R2),
        report(R1, status="interrupted", next=["n"], frames=2),
        create(R3, multitask_strategy="interrupt"),
        report(R2, status="interrupted", next=["n"]),
        *(ExpireLease(thread_id=T, run_id=R3, attempt=n, executor="x") for n in (1, 2, 3)),
    ],
    "usage": [
        create(R1, create_thread={}),
        report(R1, status="released", usage={"m": {"calls": 1, "input_tokens": 9, "total_tokens": 9}}),
        report(R1, attempt=2, status="success", usage={"m": {"calls": 2, "total_tokens": 40, "reasoning_tokens": 3}}),
        create(R2),
        report(R2, status="error", error=ERROR, usage={"m": {"calls": 1, "total_tokens": 4}, "n": {"calls": 1}}),
        create(R3),
        CancelRun(thread_id=T, run_id=R3),
        report(R3, status="interrupted", usage={"m": {"calls": 1, "cache_read_tokens": 4}}),
        create(R4),
        report(R4, status="timeout", usage={"m": {"calls": 1, "output_tokens": 4}}),
    ],
    "migrated": [
        create(R1, create_thread={}),
        report(R1, items=[checkpoint("cp1")], status="success"),
        create(R2),
        report(R2, items=[MIGRATED, checkpoint("cp2"), {**MIGRATED, "ns": "child:task"}], status="success"),
    ],
    "failures": [
        create(R1, create_thread={}),
        report(R1, started=STARTED, status="released"),
        *(ExpireLease(thread_id=T, run_id=R1, attempt=n, executor="x") for n in (2, 3, 4)),
        create(R2),
        create(R3),
        report(R2, status="timeout", error={"error": "TimeoutError", "message": ""}),
        report(R3, status="error", error=ERROR),
        create(R4, create_thread={}, temporary=True),
        report(R4, items=[{"kind": "delete", "what": "run", "run_ids": [R1]}], status="success"),
    ],
    "state_updates": [
        CreateThread(thread_id=T),
        UpdateState(thread_id=T, job_id=R1, graph_id="g", supersteps=[{"updates": [{"values": {}, "as_node": "n"}]}]),
        UpdateState(thread_id=T, job_id=R2, graph_id="g", supersteps=[], checkpoint={"checkpoint_id": "cp1"}),
        create(R3),
        report(R1, items=[SAVED], status="success", next=["n"], result={"checkpoint": {"checkpoint_id": "cp1"}}),
        report(R2, status="error", error=ERROR),
    ],
    "webhooks": [
        hooked(R1, create_thread={}),
        report(R1, started=STARTED, status="success"),
        ReportWebhook(thread_id=T, run_id=R1, attempt=1, outcome="failed", status=503, reason="no", due_at=at(9)),
        hooked(R2),
        report(R2, started=STARTED),
        CancelRun(thread_id=T, run_id=R2, action="rollback"),
        report(R2, status="interrupted"),
        ReportWebhook(thread_id=T, run_id=R1, attempt=2, outcome="delivered", status=204),
        hooked(R3),
        ReportWebhook(thread_id=T, run_id=R2, attempt=1, outcome="dead", reason="refused"),
        report(R3, started=STARTED, status="error", error=ERROR),
        DeleteThread(thread_id=T),
    ],
    "imports": [
        imported(T, 4, {"type": "thread.created", "thread_id": T, "ttl": {"strategy": "delete", "ttl": 60}}),
        imported(
            T, 9, {"type": "run.created", **RUN, "graph_id": "g", "run": {}, "stream_from": 7},
            {"type": "run.scheduled", **RUN, "attempt": 1},
            {"type": "run.started", **RUN, "attempt": 1, "executor": "x"},
            after=4,
        ),
        imported(T, 12, {"type": "command.rejected", "code": "conflict", "detail": "d"}, after=9),
        imported(T, 9, after=4),
        imported(T, 30, after=29),
        UpdateThread(thread_id=T),
        CloseImport(key=T, source="elsewhere"),
        UpdateThread(thread_id=T, metadata={"n": 1}),
        imported(T, 30),
        imported(
            f"cron:{CRON}", 5,
            {"type": "cron.created", "cron_id": CRON, "assistant_id": A, "schedule": "* * * * *", "next_due_at": at(9)},
            {"type": "cron.fired", "cron_id": CRON, "due_at": at(9), "run_id": R2, "thread_id": T,
             "next_due_at": at(18)},
        ),
        CloseImport(key=f"cron:{CRON}", source="elsewhere", next_due_at=at(50)),
        imported("store:a.b", 6, {"type": "store.item_put", "namespace": ["a", "b"], "key": "k", "value": {"n": 1}}),
        CloseImport(key="store:a.b", source="elsewhere"),
    ],
    "priority": [
        create(R1, create_thread={}, priority={"priority": -2, "fairness_group": "ann"}),
        create(R2, priority={"priority": 5}),
        ExpireLease(thread_id=T, run_id=R1, attempt=1, executor="x"),
        report(R1, attempt=2, status="success"),
    ],
    "expiry": [
        CreateThread(thread_id=T, ttl={"strategy": "keep_latest", "ttl": 0.05}),
        ExpireThread(thread_id=T),
        create(R1),
        report(R1, started=STARTED, items=[SAVED], status="success"),
        ExpireThread(thread_id=T),
        *(UpdateThread(thread_id=T, metadata={"n": n}) for n in range(3)),
        ExpireThread(thread_id=T),
        UpdateThread(thread_id=COPY),
        UpdateThread(thread_id=COPY),
        ExpireThread(thread_id=T),
        CreateRun(
            thread_id=COPY, run_id=R2, graph_id="g", run={}, create_thread={},
            thread_ttl={"strategy": "delete", "ttl": 0.01},
        ),
        report(R3, status="success"),
        CancelRun(thread_id=COPY, run_id=R2),
        ExpireLease(thread_id=COPY, run_id=R2, attempt=1, executor=""),
        ExpireThread(thread_id=COPY),
        ExpireThread(thread_id=COPY),
    ],
    "assistants": [
        RegisterGraph(graph_id="g", digest="1", info={"description": "d"}),
        CreateAssistant(assistant_id=A, graph_id="g", name="g", metadata={"created_by": "system"}),
        UpdateAssistant(assistant_id=A, config={"tags": ["a"]}, metadata={"m": 1}),
        SetLatestAssistant(assistant_id=A, version=1),
        DeleteAssistant(assistant_id=A),
        CreateAssistant(assistant_id=A, graph_id="g", context={"k": 1}),
    ],
    "store": [
        WriteItems(
            namespace=["users", "ann"],
            ops=[
                {"key": "tea", "value": {"likes": "oolong"}, "vectors": [["likes", "AACAPwAAAEA="]]},
                {"key": "mood", "value": {"n": [1, 2.5, None]}, "ttl": 1.5},
                {"key": "coffee", "delete": True},
            ],
        ),
        TouchItems(namespace=["users", "ann"], keys=["mood"]),
        ExpireItems(namespace=["users", "ann"], before=at(50)),
        WriteItems(namespace=["shared"], ops=[{"key": "tea", "value": {}}]),
    ],
}  # fmt: skip


def lines(commands: list[Command]) -> list[Any]:
    """The event records of a story, then what is kept under each key after it."""
    states: dict[str, States] = {}
    out: list[Any] = [EventRecord(epoch=1, cmd_off=-1, cmd_id="", key="", at=at(0), start=True)]
    for n, command in enumerate([*commands, commands[0]]):  # the first once more: repeated
        key = decider.key_of(command)
        cmd_id = f"c{n % len(commands)}"
        before = states.get(key, EMPTY)
        events = decider.decide(before, key, command, cmd_id=cmd_id, at=at(n))
        states[key] = decider.fold(before, key, cmd_id, at(n), events)
        wire = [event_to_wire(event) for event in events]
        out.append(EventRecord(epoch=1, cmd_off=n, cmd_id=cmd_id, key=key, at=at(n), events=wire, after=n - 1))
    return [*out, {"states": {key: decider.dump(state) for key, state in states.items()}}]


def envelopes() -> list[CommandEnvelope]:
    """The commands of all stories as they are in the log."""
    commands = [command for story in STORIES.values() for command in story]
    return [CommandEnvelope.of(c, id=f"c{n}", key=decider.key_of(c), at=at(n)) for n, c in enumerate(commands)]


def _write(file: Path, records: list[Any]) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))


if __name__ == "__main__":
    here = Path(__file__).parent
    for name, commands in STORIES.items():
        _write(here / "golden" / sys.argv[1] / f"{name}.jsonl", lines(commands))
    _write(here / "golden_commands" / f"{sys.argv[1]}.jsonl", envelopes())
