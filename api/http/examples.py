"""Examples of request bodies, for the description of the api: by model, or by route where routes share a model.

Each is one that its route takes (tests/api/test_openapi.py); ids in them are placeholders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_THREAD = "01912c8e-7b1a-7c3e-9d5f-2a4b6c8d0e1f"
_RUN = "01912c8f-0a2b-7d4e-8f60-718293a4b5c6"
_CHECKPOINT = "1ef5d6a0-7c1e-6d3a-8002-9f8e7d6c5b4a"
_ASSISTANT = "6a1d9c8b-4e3f-4a5b-9c7d-8e9f0a1b2c3d"
_HELLO = {"messages": [{"role": "user", "content": "Where is my order?"}]}
_EVERY_MORNING = {
    "assistant_id": "agent",
    "schedule": "0 7 * * 1-5",
    "timezone": "Europe/Amsterdam",
    "input": {"messages": [{"role": "user", "content": "What happened overnight?"}]},
}

EXAMPLES: Mapping[str, Any] = {
    "AssistantCreate": {
        "graph_id": "agent", "name": "Polite", "context": {"tone": "polite"}, "metadata": {"team": "support"},
    },
    "AssistantPatch": {"context": {"tone": "brief"}},
    "AssistantSearch": {"graph_id": "agent", "metadata": {"team": "support"}, "limit": 20},
    "AssistantFilter": {"graph_id": "agent", "metadata": {"team": "support"}},
    "AssistantVersions": {"limit": 10},
    "AssistantLatest": {"version": 1},
    "ThreadCreate": {"metadata": {"customer": "c-17"}, "ttl": {"strategy": "delete", "ttl": 1440}},
    "ThreadPatch": {"metadata": {"topic": "refund"}},
    "ThreadSearch": {
        "metadata": {"customer": "c-17"}, "status": "interrupted", "sort_by": "updated_at", "sort_order": "desc",
        "limit": 20, "select": ["thread_id", "status", "interrupts"],
    },
    "ThreadFilter": {"metadata": {"customer": "c-17"}, "status": "interrupted"},
    "ThreadPrune": {"thread_ids": [_THREAD], "strategy": "keep_latest"},
    "StateUpdate": {"values": {"messages": [{"role": "user", "content": "Never mind."}]}, "as_node": "__start__"},
    "StatePatch": {"metadata": {"topic": "refund"}},
    "StateAt": {"checkpoint": {"checkpoint_ns": "", "checkpoint_id": _CHECKPOINT}, "subgraphs": False},
    "History": {"limit": 10, "metadata": {"source": "loop"}},
    "RunCreate": {
        "assistant_id": "agent", "input": _HELLO, "stream_mode": ["messages-tuple", "updates"],
        "multitask_strategy": "enqueue",
    },
    "RunSearch": {"status": ["error", "timeout"], "since": "2026-11-01T00:00:00Z", "limit": 20},
    "RunFilterBody": {"status": ["error", "timeout"], "since": "2026-11-01T00:00:00Z"},
    "CancelMany": {"thread_id": _THREAD, "run_ids": [_RUN]},
    "CronCreate": {**_EVERY_MORNING, "on_run_completed": "keep"},
    "ThreadCronCreate": _EVERY_MORNING,
    "CronPatch": {"schedule": "0 8 * * 1-5", "enabled": True},
    "CronSearch": {"assistant_id": _ASSISTANT, "enabled": True, "limit": 20},
    "CronFilter": {"assistant_id": _ASSISTANT, "enabled": True},
    "ItemBody": {"namespace": ["customers", "c-17"], "key": "preferences", "value": {"language": "nl"}},
    "ItemDelete": {"namespace": ["customers", "c-17"], "key": "preferences"},
    "ItemSearch": {"namespace_prefix": ["customers"], "filter": {"language": "nl"}, "limit": 20},
    "NamespaceSearch": {"prefix": ["customers"], "max_depth": 2},
    "CommandRequest": {"id": 1, "method": "run.start", "params": {"assistant_id": "agent", "input": _HELLO}},
    "FilterRequest": {"channels": ["lifecycle", "messages"], "namespaces": [[]], "depth": 1},
    "Component": {"name": "weather"},
    "POST /mcp": {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "agent", "arguments": _HELLO},
    },
    "POST /a2a/{assistant_id}": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "message/send",
        "params": {
            "message": {"messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": "Where is my order?"}]},
        },
    },
}  # fmt: skip


def example_of(route: str, model: type[Any]) -> Any:
    """The example of a route, `METHOD /path`, whose body has this model; None without one."""
    return EXAMPLES.get(route.removesuffix("/"), EXAMPLES.get(model.__name__))
