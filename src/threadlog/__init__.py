"""Durable runs for LangGraph applications, from a log.

For subscribers (docs/subscribers.md): `subscriber` makes an app, `events` is the channel its agents read;
`AcceptedEvents` is the acceptance rule for other clients of the topic. They are imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadlog.deploy.subscriber import subscriber
    from threadlog.projections.subscribers.accepted import AcceptedEvents, AcceptedRecord, EventPosition
    from threadlog.projections.subscribers.app import EVENTS as events

__all__ = ["AcceptedEvents", "AcceptedRecord", "EventPosition", "events", "subscriber"]

_HOMES = {
    "AcceptedEvents": ("threadlog.projections.subscribers.accepted", "AcceptedEvents"),
    "AcceptedRecord": ("threadlog.projections.subscribers.accepted", "AcceptedRecord"),
    "EventPosition": ("threadlog.projections.subscribers.accepted", "EventPosition"),
    "events": ("threadlog.projections.subscribers.app", "EVENTS"),
    "subscriber": ("threadlog.deploy.subscriber", "subscriber"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'threadlog' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
