"""A cron as clients receive it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import asyncpg
import orjson
from typing_extensions import TypedDict

from threadlog.api.http.models import AnyObject, Id, Time
from threadlog.api.http.responses import exactly, raw, time_text
from threadlog.engine.clock import utc_now


class LastFiring(TypedDict):
    """What became of the last time: `run_id` is None and `error` says why if there is no run."""

    due_at: Time
    run_id: Id | None
    thread_id: Id
    error: AnyObject | None


class CronResponse(TypedDict):
    """A cron. `last_firing` is threadlog's own."""

    cron_id: Id
    assistant_id: Id
    thread_id: Id | None
    user_id: str | None
    schedule: str
    timezone: str | None
    end_time: Time | None
    payload: AnyObject
    next_run_date: Time | None
    metadata: AnyObject
    on_run_completed: Literal["delete", "keep"] | None
    enabled: bool
    created_at: Time
    updated_at: Time
    last_firing: LastFiring | None


class CronSearchResponse(CronResponse):
    """A cron as a search returns it. `now`: the server's time, if `select` names it."""

    now: Time


def cron_to_json(row: asyncpg.Record) -> CronResponse:
    """`row`: of `projections.queries.crons`."""
    cron_id, assistant_id = str(row["cron_id"]), str(row["assistant_id"])
    payload = exactly(row["payload"].encode())
    payload.pop("caller", None)  # what its runs tell nodes of who has created it
    config = payload.get("config") or {}
    payload["assistant_id"] = assistant_id
    payload["metadata"] = orjson.Fragment(row["metadata"])
    payload["config"] = {**config, "configurable": {**(config.get("configurable") or {}), "cron_id": cron_id}}
    return {
        "cron_id": cron_id,
        "assistant_id": assistant_id,
        "thread_id": None if row["thread_id"] is None else str(row["thread_id"]),
        "user_id": row["user_id"],
        "schedule": row["schedule"],
        "timezone": row["timezone"],
        "end_time": _time(row["end_time"]),
        "payload": payload,
        "next_run_date": _time(row["next_due_at"]),
        "metadata": raw(row["metadata"]),
        "on_run_completed": row["on_run_completed"],
        "enabled": row["enabled"],
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
        "last_firing": raw(row["last_firing"]),
    }


def selected(item: CronResponse, select: list[str] | None) -> Mapping[str, Any]:
    """Only these fields of a cron, None: all it has. `now`: the server's time, for clients that show a countdown."""
    if select is None:
        return item
    values: Mapping[str, Any] = {**item, "now": utc_now()}
    return {name: values[name] for name in select}


def _time(at: datetime | None) -> str | None:
    return None if at is None else time_text(at)
