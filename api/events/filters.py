"""Subscription filter: which events of a thread a client has asked for (channels, namespaces, depth)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from threadlog.api.http.limits import shown

CHANNELS = ("values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks", "checkpoints")
_KNOWN = frozenset(CHANNELS)
_NAMED = "custom:"
_MAX_ENTRIES = 1000  # of channels or namespaces: each is compared with each event


class InvalidFilter(ValueError):
    """The text is for the client."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """`namespaces`: only graphs at or below one of these, each as its segments, empty for all; `depth`: at most so many
    levels below it, None for any; `since`: only events after this sequence number.
    """

    channels: frozenset[str]
    namespaces: tuple[tuple[str, ...], ...] = ()
    depth: int | None = None
    since: int = -1

    def wants(self, channel: str, namespace: tuple[str, ...], name: str | None = None) -> bool:
        """`name`: of a custom event that has one."""
        if channel not in self.channels and (name is None or _NAMED + name not in self.channels):
            return False
        return not self.namespaces or any(self._below(namespace, prefix) for prefix in self.namespaces)

    def _below(self, namespace: tuple[str, ...], prefix: tuple[str, ...]) -> bool:
        below = len(namespace) - len(prefix)
        if below < 0 or (self.depth is not None and below > self.depth):
            return False
        return all(_matches(segment, expected) for segment, expected in zip(namespace, prefix, strict=False))

    @property
    def reached(self) -> int:
        """The sequence number that a client of this filter has seen."""
        return self.since

    def come_to(self, seq: int) -> bool:
        """See `FilterUnion`; False, as a filter of its own always wants the same."""
        return False


class FilterUnion:
    """What any of several filters lets through, each from `after` its sequence number on."""

    def __init__(self, filters: Sequence[EventFilter], after: Sequence[int]) -> None:
        self._later = sorted(zip(after, filters, strict=True), key=lambda each: -each[0])
        self._filters: list[EventFilter] = []
        self.since, self.reached = min(after), max(after)

    def come_to(self, seq: int) -> bool:
        """Events up to this sequence number are next: what has seen all of these wants none. True if that changes."""
        before = len(self._filters)
        while self._later and self._later[-1][0] < seq:
            self._filters.append(self._later.pop()[1])
        return len(self._filters) > before

    def wants(self, channel: str, namespace: tuple[str, ...], name: str | None = None) -> bool:
        return any(each.wants(channel, namespace, name) for each in self._filters)


def _matches(segment: str, expected: str) -> bool:
    """A segment is `<node>:<task id>`; a client may name the node only."""
    return segment == expected or (":" not in expected and segment.partition(":")[0] == expected)


def filter_of(params: dict[str, Any]) -> EventFilter:
    """The filter that a client describes. Raises `InvalidFilter`."""
    channels = params.get("channels")
    if not isinstance(channels, list) or not channels:
        raise InvalidFilter("channels is required and must be a non-empty array")
    _check_count("channels", channels)
    unknown = [c for c in channels if not (isinstance(c, str) and (c in _KNOWN or _is_named(c)))]
    if unknown:
        listed = ", ".join(shown(str(channel)) for channel in unknown[:10])
        raise InvalidFilter(
            f"channels contains unsupported entries: {listed}. Allowed: {', '.join(CHANNELS)}, or any `custom:<name>`."
        )
    return EventFilter(
        frozenset(channels), _namespaces(params.get("namespaces")), _whole(params, "depth"), _since(params)
    )


def _is_named(channel: str) -> bool:
    return channel.startswith(_NAMED) and len(channel) > len(_NAMED)


def _check_count(name: str, entries: list[Any]) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise InvalidFilter(f"{name} has {len(entries)} entries; at most {_MAX_ENTRIES} are allowed")


def _namespaces(prefixes: Any) -> tuple[tuple[str, ...], ...]:
    if prefixes is None:
        return ()
    if not isinstance(prefixes, list) or not all(
        isinstance(prefix, list) and all(isinstance(segment, str) for segment in prefix) for prefix in prefixes
    ):
        raise InvalidFilter("namespaces must be an array of arrays of strings")
    _check_count("namespaces", prefixes)
    return tuple(tuple(prefix) for prefix in prefixes)


def _whole(params: dict[str, Any], name: str) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidFilter(f"{name} must be a whole number, 0 or more")
    return value


def _since(params: dict[str, Any]) -> int:
    since = _whole(params, "since")
    return -1 if since is None else since
