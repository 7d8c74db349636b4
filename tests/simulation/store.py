"""The store in the simulation: clients that write, read and repeat themselves, the owner's sweeps, and what has to be
left of it all."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from threadlog.engine.domain.commands import Command, ExpireItems, TouchItems, WriteItems
from threadlog.engine.log.records import CommandEnvelope, EventRecord

NAMESPACES = (["a"], ["a", "b"], ["c"])
KEYS = ("x", "y", "z")
STEP_CHANCE = 0.03  # of a client's command per step of the scenario

Item = tuple[str, str]
Items = dict[Item, dict[str, Any]]


class StoreClients:
    """Of a random generator of its own, so that a seed is the same with and without the store up to what it does."""

    def __init__(self, random: random.Random) -> None:
        self.random = random

    def command(self) -> Command | None:
        """What a client sends now, if it does."""
        rnd = self.random
        if rnd.random() >= STEP_CHANCE:
            return None
        namespace = list(rnd.choice(NAMESPACES))
        if rnd.random() < 0.2:
            return TouchItems(namespace=namespace, keys=rnd.sample(KEYS, rnd.randint(1, 2)))
        return WriteItems(namespace=namespace, ops=[self._op() for _ in range(rnd.choice((1, 1, 1, 3)))])

    def _op(self) -> dict[str, Any]:
        key = self.random.choice(KEYS)
        if self.random.random() < 0.2:
            return {"key": key, "delete": True}
        op: dict[str, Any] = {"key": key, "value": {"n": self.random.randrange(1000)}}
        if self.random.random() < 0.4:
            op["ttl"] = self.random.choice((0.05, 0.2, 5.0))
        return op


def sweeps(items: Items, now: str) -> list[tuple[str, Command]]:
    """What the partition's owner sends for what has expired, by the command's id."""
    due: dict[str, tuple[list[str], str]] = {}
    for (text, _), item in items.items():
        if item["expires"] is not None and item["expires"] <= now:
            due[text] = item["namespace"], max(item["expires"], due.get(text, ([], ""))[1])
    return [
        (f"expire:{text}:{before}", ExpireItems(namespace=namespace, before=before))
        for text, (namespace, before) in due.items()
    ]


def apply(items: Items, at: str, event: dict[str, Any]) -> None:
    """What one event does to the table."""
    namespace = event["namespace"]
    text = ".".join(namespace)
    match event["type"]:
        case "store.item_put":
            _put(items, namespace, event["key"], event["value"], event.get("ttl"), at)
        case "store.items_put":
            for item in event["items"]:
                _put(items, namespace, item["key"], item["value"], item.get("ttl"), at)
        case "store.item_deleted":
            items.pop((text, event["key"]), None)
        case "store.items_touched":
            for key in event["keys"]:
                if (item := items.get((text, key))) is not None:
                    item["expires"] = _expires(at, item["ttl"])
        case "store.items_expired":
            before = event["before"]
            for key in [k for k, i in items.items() if k[0] == text and i["expires"] and i["expires"] <= before]:
                del items[key]


def expected(commands: Iterable[CommandEnvelope], records: Iterable[EventRecord]) -> Items:
    """What the commands leave, one after the other: those that count, as they are not repeated or refused."""
    items: Items = {}
    for envelope, record in zip(commands, records, strict=True):
        if not envelope.type.startswith("store.") or any(e["type"].startswith("command.") for e in record.events):
            continue
        namespace, at = envelope.body["namespace"], envelope.at
        for op in envelope.body.get("ops", ()):
            item = (".".join(namespace), op["key"])
            if op.get("delete"):
                items.pop(item, None)
            else:
                _put(items, namespace, op["key"], op["value"], op.get("ttl"), at)
        for key in envelope.body.get("keys", ()):
            if (found := items.get((".".join(namespace), key))) is not None:
                found["expires"] = _expires(at, found["ttl"])
        if (before := envelope.body.get("before")) is not None:
            past = {k for k, i in items.items() if i["namespace"] == namespace and (i["expires"] or "9") <= before}
            items = {key: item for key, item in items.items() if key not in past}
    return items


def _put(items: Items, namespace: list[str], key: str, value: Any, ttl: float | None, at: str) -> None:
    before = items.get((".".join(namespace), key))
    alive = before is not None and (before["expires"] is None or before["expires"] > at)
    items[".".join(namespace), key] = {
        "namespace": namespace, "value": value, "created": before["created"] if before and alive else at,
        "updated": at, "ttl": ttl, "expires": _expires(at, ttl),
    }  # fmt: skip


def _expires(at: str, ttl: float | None) -> str | None:
    if ttl is None:
        return None
    return (datetime.fromisoformat(at) + timedelta(minutes=ttl)).isoformat(timespec="microseconds")
