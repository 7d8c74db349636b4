"""The run of a firing: built as a request's is, from what assistant and thread are at that moment (contract 6, 3.8)."""

from __future__ import annotations

from dataclasses import fields, replace

from threadlog.engine.crons.ports import Firing, FiringContext
from threadlog.engine.domain.commands import CreateRun, JsonObject
from threadlog.engine.run_builder import RunRequest, build_run

_REQUESTED = frozenset(field.name for field in fields(RunRequest)) - {"metadata"}


class NoRun(Exception):
    """This firing can have no run; says why, in words for the cron's owner."""


def command_id(firing: Firing) -> str:
    return f"cron:{firing.cron_id}:{firing.due_at}:run"


def run_of(firing: Firing, context: FiringContext, stream_from: int, thread_ttl: JsonObject | None = None) -> CreateRun:
    """The command that creates it. `thread_ttl`: of a thread that it makes and leaves. Raises `NoRun`."""
    cron, assistant, thread = context.cron, context.assistant, context.thread
    if cron is None:
        raise NoRun("The cron has been deleted.")
    if assistant is None:
        raise NoRun(f"Assistant with ID {cron.assistant_id} not found")
    if cron.of_thread and thread is None:
        raise NoRun(f"Thread with ID {firing.thread_id} not found")
    metadata, config = ({}, {}) if thread is None else thread
    requested = {name: value for name, value in cron.payload.items() if name in _REQUESTED and value is not None}
    command = build_run(
        RunRequest(**requested, metadata=dict(cron.metadata)),
        run_id=firing.run_id,
        thread_id=firing.thread_id,
        assistant=assistant,
        thread_metadata=metadata,
        thread_config=config,
        create_thread=not cron.of_thread,
        temporary=not cron.of_thread and cron.on_run_completed != "keep",
        request_id=command_id(firing),
        stream_from=stream_from,
        thread_ttl=thread_ttl,
        cron_id=firing.cron_id,
    )
    return replace(command, cron_id=firing.cron_id, cron_due_at=firing.due_at)
