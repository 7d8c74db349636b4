"""What each event of a run means, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_NEXT = "branch:to:"


def words_of(event: Mapping[str, Any], nodes: Mapping[str, str]) -> str:
    """One event of a run as a phrase of its story. `nodes`: names of the tasks that were planned, by id."""
    if event["type"] == "writes.saved":
        return _writes(event, nodes)
    return _TELLERS.get(event["type"], _plain)(event)


def error_text(error: Mapping[str, Any]) -> str:
    """An error as events have it: its class and its message."""
    return f"{error.get('error', 'Error')}: {error.get('message', '')}".rstrip(": ")


def _created(event: Mapping[str, Any]) -> str:
    kwargs = event["run"].get("kwargs") or {}
    if not isinstance(kwargs, dict):
        kwargs = {}
    asked = "answers an interrupt of" if (kwargs.get("command") or {}) else "asks for"
    parts = [f"{asked} graph {event['graph_id']}"]
    if event.get("cron_id"):
        parts.append(f"cron {event['cron_id']} fired for {event.get('cron_due_at')}")
    if event.get("multitask_strategy", "enqueue") != "enqueue":
        parts.append(f"strategy {event['multitask_strategy']}")
    if event.get("temporary"):
        parts.append("stateless")
    if kwargs.get("webhook"):
        parts.append("with a webhook")
    return "a request " + ", ".join(parts)


def _subgraph(ns: str) -> str:
    """`outer.inner` of a namespace, without the ids of the tasks that called them."""
    return ".".join(part.partition(":")[0] for part in ns.split("|"))


def _scheduled(event: Mapping[str, Any]) -> str:
    number = event["attempt"]
    again = "" if number == 1 else ", after the one before was lost or handed on"
    return f"attempt {number} may be claimed{again}"


def _checkpoint(event: Mapping[str, Any]) -> str:
    metadata = event.get("metadata") or {}
    where = f" of subgraph {_subgraph(event['ns'])}" if event.get("ns") else ""
    step = f"step {metadata.get('step', '?')}{where} ({metadata.get('source', 'loop')})"
    return f"{step} is checkpoint {event['checkpoint_id']}"


def _planned(event: Mapping[str, Any]) -> str:
    names = [str(task.get("name", "?")) for task in event.get("tasks") or []]
    where = f" in subgraph {_subgraph(event['ns'])}" if event.get("ns") else ""
    return f"next{where}: {', '.join(names)}" if names else f"nothing is left to do{where}"


def _pulled(event: Mapping[str, Any]) -> str:
    """The node of a task that was planned before the run: its path ends with it, unless it was sent for."""
    return str(event.get("task_path") or "").partition("~__pregel_pull, ")[2]


def _writes(event: Mapping[str, Any], nodes: Mapping[str, str]) -> str:
    channels = [str(write[1]) for write in event.get("writes") or [] if isinstance(write, list) and len(write) > 1]
    who = nodes.get(event["task_id"]) or _pulled(event) or f"task {event['task_id']}"
    if "__interrupt__" in channels:
        return f"{who} asks a question and waits"
    if "__error__" in channels:
        return f"{who} raised an error"
    written = dict.fromkeys(channel for channel in channels if not channel.startswith((_NEXT, "__")))
    following = dict.fromkeys(channel.removeprefix(_NEXT) for channel in channels if channel.startswith(_NEXT))
    done = [f"wrote {', '.join(written)}"] if written else []
    done += [f"goes to {', '.join(following)}"] if following else []
    return f"{who} {' and '.join(done) or 'wrote nothing'}"


def _succeeded(event: Mapping[str, Any]) -> str:
    if event.get("interrupts"):
        return f"it waits for an answer before {', '.join(event.get('next') or ['the end'])}: {_questions(event)}"
    if event.get("next"):
        return f"it stopped before {', '.join(event['next'])}"
    return f"it ended, attempt {event['attempt']}" + _tokens(event)


def _questions(event: Mapping[str, Any]) -> str:
    values = [i.get("value") for each in event["interrupts"].values() for i in each if isinstance(i, dict)]
    text = "; ".join(str(value) for value in values)
    return text if len(text) <= 200 else text[:199] + "…"


def _tokens(event: Mapping[str, Any]) -> str:
    usage = event.get("usage") or {}
    total = sum(
        tokens.get("total_tokens", tokens.get("input_tokens", 0) + tokens.get("output_tokens", 0))
        for tokens in usage.values()
    )
    return f", {total:,} tokens of {', '.join(usage)}" if usage else ""


def _error(event: Mapping[str, Any]) -> str:
    return error_text(event.get("error") or {})


def _cancelled(event: Mapping[str, Any], done: str) -> str:
    why = "a newer run took its place" if event.get("reason") == "superseded" else "a client cancelled it"
    said = f" ({event['cancel_reason']})" if event.get("cancel_reason") else ""
    return f"{done}: {why}{said}" + ("; its executor has yet to stop" if event.get("stopping") else "")


def _delivery(event: Mapping[str, Any]) -> str:
    status = "" if event.get("status") is None else f", HTTP {event['status']}"
    why = "" if not event.get("reason") else f": {event['reason']}"
    return f"attempt {event['attempt']}{status}{why}"


def _plain(event: Mapping[str, Any]) -> str:
    return str(event["type"])


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run.created": _created,
    "run.refused": lambda e: f"it was refused, {e['code']}: {e['detail']}",
    "run.ready": lambda e: "its time has come, and the thread is busy: it waits for its turn",
    "run.scheduled": _scheduled,
    "run.started": lambda e: f"attempt {e['attempt']} began on executor {e['executor']}",
    "run.succeeded": _succeeded,
    "run.failed": lambda e: f"it failed in attempt {e['attempt']}: {_error(e)}{_tokens(e)}",
    "run.timed_out": lambda e: f"it took too long, attempt {e['attempt']}: {_error(e)}{_tokens(e)}",
    "run.interrupted": lambda e: _cancelled(e, "it was interrupted"),
    "run.rolled_back": lambda e: _cancelled(e, "it and its checkpoints were removed"),
    "run.deleted": lambda e: "it was deleted",
    "run.stopped": lambda e: f"the executor of attempt {e['attempt']} has let go{_tokens(e)}",
    "run.released": lambda e: f"the executor handed attempt {e['attempt']} back: it was asked to stop{_tokens(e)}",
    "run.lease_expired": lambda e: f"the executor of attempt {e['attempt']}, {e['executor']}, is gone",
    "report.fenced": lambda e: f"a report of attempt {e['attempt']} came too late: nothing of it counts",
    "checkpoint.saved": _checkpoint,
    "tasks.planned": _planned,
    "checkpoints.deleted": lambda e: "its checkpoints were deleted",
    "state.migrated": lambda e: f"its state was brought from version {e['from_version']} to {e['to_version']}",
    "state.update_requested": lambda e: f"a request updates the state of graph {e['graph_id']}",
    "state.updated": lambda e: "the state was updated",
    "state.update_failed": lambda e: f"the update failed: {_error(e)}",
    "webhook.requested": lambda e: f"its end is to be sent to {e['url']}",
    "webhook.delivered": lambda e: f"the webhook was delivered, {_delivery(e)}",
    "webhook.failed": lambda e: f"the webhook failed, {_delivery(e)}; again at {e['due_at']}",
    "webhook.dead": lambda e: f"the webhook was given up, {_delivery(e)}",
}
