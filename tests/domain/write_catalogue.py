"""Writes docs/reference/events.md from the dataclasses: `python -m tests.domain.write_catalogue`.

The text above each table is the class's docstring; types and defaults are the field's own; what a field means is in
`MEANINGS`, by its name, or by `type.name` where one message means something else by it.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path

from threadlog.engine.domain.commands import COMMANDS, Command
from threadlog.engine.domain.events import EVENTS, Event

CATALOGUE = Path(__file__).parent.parent.parent / "docs" / "reference" / "events.md"

INTRODUCTION = """\
# Commands and events

What the topics `commands` and `events` hold, for those who read the log or change what is in it. Written from
`engine/domain/commands/` and `engine/domain/events/` by `python -m tests.domain.write_catalogue`; a test compares.

A command travels as `{id, type, key, at, body, actor, trace}` with the fields below in `body`; an event is a flat
object `{"type": …, …fields}` in an event record (ARCHITECTURE.md, "The log"). Fields that equal their default are
left out, fields that a reader does not know are ignored. Ids are UUIDs, times are ISO-8601 in UTC, an object or a
list is JSON.
A value reference is described in ARCHITECTURE.md, "Checkpoints".
"""

MEANINGS = {
    "action": "`interrupt` keeps the run and its checkpoints, `rollback` deletes them",
    "assistant_id": "the assistant",
    "at": "when the executor began the attempt",
    "attempt": "number of the attempt, from 1",
    "before": "what ended at this time or earlier",
    "blobs": "new values that references name: `{h, t, d}`, `{h, t, b}` or `{h, t, at}`",
    "cancel_reason": "why it was cancelled, in words",
    "channels": "a value reference for every channel",
    "checkpoint": "LangGraph's checkpoint without its channel values",
    "checkpoint_id": "the checkpoint",
    "code": "kind of refusal",
    "config": "runnable config",
    "context": "run context of the graph",
    "copied_from": "thread this one is a copy of",
    "new_thread": "whether a thread that exists is refused",
    "create_thread": "metadata of the thread to create if there is none; None: an unknown thread is refused",
    "description": "text for people",
    "detail": "the sentence the client gets",
    "digest": "hash of `info`",
    "due_at": "the run does not start before this time",
    **{f"{kind}.due_at": "when the next attempt is due" for kind in ("webhook.report", "webhook.failed")},
    "error": "`{error: class name, message}`",
    "executor": "id of the executor process",
    "frames": "how many stream frames the attempt emitted",
    "fresh": "whether the thread has no checkpoint to load",
    "from_version": "version of the state that was read",
    "to_version": "version of the state that the run goes on with",
    "graph_id": "the graph's name in `langgraph.json`",
    "if_exists": "`raise` refuses an id that exists, `do_nothing` leaves it untouched",
    "info": "description, schemas, drawings, subgraphs and output channels of the graph",
    "interrupts": "unanswered interrupts by task id: `{task id: [{id, value}]}`",
    "checkpoints.import.items": "checkpoints, writes and values, as in `run.report`",
    "clears": "fields that become None: `end_time`, `timezone`",
    "cron_id": "the cron",
    **{f"{kind}.cron_id": "the cron that fired, None: no cron did" for kind in ("run.create", "run.created")},
    "cron_due_at": "the time for which the cron fired",
    **{
        f"cron.{kind}.due_at": "the time for which it fires"
        for kind in ("fire", "fired", "ended", "record_run", "run_created", "run_refused")
    },
    "cron.record_run.error": "why there is no run: `{error, message}`; None: it has been created",
    "cron.run_refused.error": "why there is no run: `{error, message}`",
    "enabled": "whether it fires; None: as before",
    "cron.create.enabled": "whether it fires",
    "cron.created.enabled": "whether it fires",
    "end_time": "it does not fire after this",
    "cron.create.metadata": "metadata of the cron and of its runs",
    "cron.created.metadata": "metadata of the cron and of its runs",
    "cron.update.metadata": "merged into the metadata",
    "cron.updated.metadata": "merged into the metadata",
    "next_due_at": "when it fires next; None: never",
    "on_run_completed": "what becomes of the run's own thread: `delete` or `keep`",
    "payload": "what each run is asked: `{input, config, context, …}`",
    "reschedules": "whether `next_due_at` counts",
    "schedule": "five or six cron fields, seconds last",
    "schedule_error": "why no next time could be found",
    "timezone": "IANA name; None: UTC",
    "user_id": "who created it",
    "cron.update.version": "of the cron as the sender saw it",
    "cron.updated.version": "counts updates, from 1",
    **{f"cron.{kind}.run_id": "the run that is created for it" for kind in ("fire", "fired")},
    **{f"cron.{kind}.thread_id": "the run's thread" for kind in ("fire", "fired")},
    **{f"cron.{kind}.thread_id": "the runs' thread; None: each has its own" for kind in ("create", "created")},
    "items": "what the attempt stored since its last report, in order",
    "job_id": "the state update; its attempts are numbered like a run's",
    "key": "the item's key",
    "keys": "the items' keys",
    "kind": "what is to be executed",
    "state.update.metadata": "metadata of the thread, for the metadata of the new checkpoint",
    "state.update_requested.metadata": "metadata of the thread, for the metadata of the new checkpoint",
    "max_attempts": "how many attempts may be lost before the run fails, the first included",
    "metadata": "metadata of the object",
    "checkpoint.saved.metadata": "metadata of the checkpoint (source, step, …)",
    "multitask_strategy": "what becomes of the run if another one is in flight on the thread",
    "name": "name for people",
    "namespace": "labels of the items' namespace",
    "next": "nodes that would run next",
    "ns": "checkpoint namespace, empty for the root graph",
    "ops": "`{key, value, ttl, vectors}` puts an item, `{key, delete: true}` deletes it",
    "out": "channels clients see as the state, or the name of the one whose value is the state",
    "webhook.report.outcome": "`delivered`, `failed` (the next attempt is at `due_at`) or `dead`",
    "outcome": "how the attempt ended; None while it goes on",
    "parent_id": "the checkpoint before it in its namespace",
    "reason": "why, in words",
    "run.interrupted.reason": "cancelled by a client, or superseded by a newer run",
    "run.rolled_back.reason": "cancelled by a client, or superseded by a newer run",
    "result": "`{checkpoint, configurable}` as the client gets it",
    "run": "`{assistant_id, metadata, kwargs}`",
    "run_id": "the run",
    **{
        f"{kind}.run_id": "the run, or the job of a state update"
        for kind in (
            "run.report",
            "run.expire_lease",
            "report.fenced",
            "run.scheduled",
            "run.released",
            "run.lease_expired",
        )
    },
    "run_ids": "the runs",
    "settled": "status of the thread once nothing is in flight",
    "shown": "references of what clients see where the channels' own don't tell it",
    "started_at": "when the run began, None if it never did",
    "started": "`{executor, at}`, with the first report of an attempt",
    "status": "status of the thread",
    "webhook.requested.status": "how the run ended",
    **{
        f"webhook.{kind}.status": "HTTP status of the response, None without a response"
        for kind in ("report", "delivered", "failed", "dead")
    },
    **{
        f"webhook.{kind}.attempt": "number of the attempt to deliver, from 1"
        for kind in ("report", "delivered", "failed", "dead")
    },
    "url": "where it is sent, as the client gave it",
    "stopping": "whether an executor has yet to stop, so that the slot stays taken",
    "stream_from": "offset in the partition's `stream` topic not after the run's first frame",
    "supersteps": "updates by superstep: `[{updates: [{values, as_node, command}]}]`",
    "state.update.checkpoint": "checkpoint to fork from; None: the newest",
    "state.update_requested.checkpoint": "checkpoint to fork from; None: the newest",
    "task_id": "the task that wrote",
    "task_path": "the task's path in LangGraph",
    "tasks": "tasks of the next superstep: `[{id, name, path, …}]`",
    "tasks_error": "`repr` of the error that unfinished tasks of the newest checkpoint have from now on",
    "temporary": "whether the thread is deleted when the run ends",
    "thread_config": "config the run leaves on its thread; None: leaves it as it is",
    "thread_id": "the thread",
    "thread_metadata": "merged into the thread's metadata",
    "priority": "settings of the thread, if it has none yet: `{priority, fairness_group}`",
    "run.created.priority": "settings of the thread from now on: `{priority, fairness_group}`",
    "run.scheduled.priority": "from -5 to 5: the lower, the sooner an executor takes it",
    "fairness_group": "attempts of the same priority start in turn by group",
    "thread_ttl": "`ttl` of the thread to create",
    "ttl": "time to live: `{strategy: delete | keep_latest, ttl: idle minutes}`",
    "thread.expired.ttl": "the time to live that has passed",
    "store.item_put.ttl": "minutes after which the item is gone unless it is read or put again; None: never",
    "value": "the item's value",
    "vectors": "embedded texts of the value: `[[path, vector], …]`, a vector as Base64 of 32-bit floats, little-endian",
    "version": "version number of the assistant, from 1",
    "usage": "tokens that the attempt's models used: `{model: {calls, input_tokens, …}}`, see above",
    "writes": "pending writes: `[[index, channel, value reference], …]`",
}


def default_of(field: Field[object]) -> str:
    if field.default is not MISSING:
        return f"`{json.dumps(field.default)}`"
    if field.default_factory is not MISSING:
        return f"`{json.dumps(field.default_factory())}`"
    return "required"


def type_of(field: Field[object]) -> str:
    text = str(field.type).replace("JsonObject", "object").replace("list[Json]", "list").replace("Json", "any")
    return f"`{text}`".replace("|", "\\|")


def rows(kind: type[Command] | type[Event]) -> list[str]:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(kind):
        meaning = MEANINGS.get(f"{kind.type}.{field.name}") or MEANINGS[field.name]
        lines.append(f"| `{field.name}` | {type_of(field)} | {default_of(field)} | {meaning} |")
    return lines if len(lines) > 2 else ["No fields."]


def section(kind: type[Command] | type[Event]) -> str:
    lines = [f"### `{kind.type}`", ""]
    text = inspect.cleandoc(kind.__doc__ or "")
    if not text.startswith(f"{kind.__name__}("):  # what dataclasses write where there is no docstring
        # An indented list would be run together by Markdown: as it stands.
        lines += [re.sub(r"(?m)((?:^ {2,}.*\n?)+)", r"\n```\n\1\n```\n", text).replace("\n\n```\n\n", "\n```\n\n"), ""]
    return "\n".join([*lines, *rows(kind), ""])


def catalogue() -> str:
    parts = [INTRODUCTION, "## Commands\n", *map(section, COMMANDS.values())]
    parts += ["## Events\n", *map(section, EVENTS.values())]
    return "\n".join(parts)


if __name__ == "__main__":
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    CATALOGUE.write_text(catalogue())
