"""LangSmith's tracer for one run: the project and the example that its client chose (`langsmith_tracer`).

Everything else LangChain does itself, in the executor, when LangSmith's variables are set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from threadlog.engine.ids import as_uuid


def chosen_tracer(configurable: Mapping[str, Any]) -> Any | None:
    """A callback handler; None where the client chose nothing, or nothing is traced here."""
    project, example = configurable.get("__langsmith_project__"), configurable.get("__langsmith_example_id__")
    if project is None and example is None:
        return None
    from langsmith.utils import tracing_is_enabled  # 30 ms, and mostly nobody chooses

    if not tracing_is_enabled():
        return None
    from langchain_core.tracers.langchain import LangChainTracer

    example_id = as_uuid(example) if isinstance(example, str) else None
    return LangChainTracer(project_name=project if isinstance(project, str) else None, example_id=example_id)


def langsmith_makes_spans() -> bool:
    """Whether LangSmith's client sends its run trees as OpenTelemetry spans, which has one for every node."""
    from langsmith.utils import get_env_var, is_env_var_truish, tracing_is_enabled

    if not tracing_is_enabled():
        return False
    mode = get_env_var("TRACING_MODE")
    if mode is not None:
        return mode.lower() in ("otel", "hybrid")
    return is_env_var_truish("OTEL_ENABLED") or is_env_var_truish("OTEL_ONLY")
