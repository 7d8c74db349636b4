"""Agent tree: a run's graph and the subgraphs it has called, each with its status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from threadlog.api.context import Api
from threadlog.api.events.filters import EventFilter
from threadlog.api.events.stream import translator_of
from threadlog.api.events.subscription import EventSubscription
from threadlog.api.streaming.subscriptions import CaughtUp
from threadlog.projections.queries import runs

JsonObject = dict[str, Any]


@dataclass(slots=True)
class _Node:
    namespace: list[str]
    graph_name: str
    status: str
    children: list[_Node] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        shown: JsonObject = {"namespace": self.namespace, "status": self.status, "graph_name": self.graph_name}
        if self.children:
            shown["children"] = [child.as_json() for child in self.children]
        return shown


async def agent_tree(api: Api, thread_id: str, run_id: str | None) -> JsonObject | None:
    """The tree of a run, of the one at work when none is named; None when there is none.

    It is made of the run's `lifecycle` events: a run that streams none (not begun by this protocol) is its root alone.
    """
    rows = await runs.streams_of(api.pool, thread_id)
    if run_id is not None:
        rows = [row for row in rows if str(row["run_id"]) == run_id]
    else:
        rows = [row for row in rows if row["status"] == "running"]
    if not rows:
        return None
    row = rows[-1]
    root = _Node([], row["graph_id"] or "", _STATUS.get(row["status"], "running"))
    if row["resumable"] == "true":
        await _read(api, thread_id, str(row["run_id"]), root)
    return root.as_json()


_STATUS = {"pending": "started", "success": "completed", "error": "failed", "timeout": "failed",
           "interrupted": "interrupted"}  # fmt: skip


async def _read(api: Api, thread_id: str, run_id: str, root: _Node) -> None:
    nodes: dict[tuple[str, ...], _Node] = {(): root}

    with EventSubscription(api, thread_id) as subscription:
        await subscription.load(run_id)
        translator = translator_of(api, thread_id, subscription, EventFilter(frozenset(("lifecycle",))))
        while (items := await subscription.next(1.0)) is not None:
            for event in await translator.events(items):
                body = orjson.loads(event.body)
                if body["event_id"].startswith(f"synth:{run_id}:"):
                    _place(nodes, tuple(body["params"]["namespace"]), body["params"]["data"])
            if any(isinstance(item, CaughtUp) for item in items):
                return


def _place(nodes: dict[tuple[str, ...], _Node], namespace: tuple[str, ...], data: JsonObject) -> None:
    node = nodes.get(namespace)
    if node is not None:
        if namespace or data["event"] != "running":
            node.status = data["event"]
        return
    node = nodes[namespace] = _Node(list(namespace), data["graph_name"], data["event"])
    above = namespace[:-1]
    while above not in nodes:
        above = above[:-1]
    nodes[above].children.append(node)
