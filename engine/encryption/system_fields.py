"""Names of fields that are never encrypted: the server itself reads them, or searches for them."""

from __future__ import annotations

NEVER_ENCRYPTED = frozenset((
    # ids
    "thread_id", "run_id", "assistant_id", "graph_id", "checkpoint_id", "task_id", "cron_id", "user_id",
    # of the server, in metadata and `configurable`
    "langgraph_version", "langgraph_api_version", "langgraph_plan", "langgraph_host", "langgraph_api_url",
    "langgraph_request_id", "langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions",
    "created_by", "__after_seconds__", "__request_start_time_ms__",
    # of checkpoints
    "source", "step", "parents", "run_attempt", "checkpoint_ns", "checkpoint_map",
    # how a run is executed
    "max_concurrency", "recursion_limit", "ttl",
))  # fmt: skip
