"""Token counter of an attempt: a LangChain callback that adds up the `usage_metadata` of its models' messages."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from threadlog.engine.domain.usage import MODEL_CHARACTERS, MODELS, MOST_TOKENS, OTHER_MODELS


class UsageCounter(BaseCallbackHandler):
    """Counts the tokens of every model call that ended, in whatever node, subgraph or tool; any thread.

    A model that tells no usage counts for none: most providers tell it of streamed calls only on request
    (`stream_usage`).
    """

    run_inline = True  # a task per event otherwise
    # What is not told costs a run 10 us per node less.
    ignore_chain = ignore_agent = ignore_retriever = True
    ignore_retry = ignore_custom_event = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, int]] = {}

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Nothing: without this method LangChain makes one text of all messages, for `on_llm_start`."""

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        for generations in response.generations:
            for generation in generations[:1]:  # of several candidates the first tells of all
                message = getattr(generation, "message", None)
                told = getattr(message, "usage_metadata", None)
                if told:
                    self._add(_model_of(message), told)

    def _add(self, model: str, told: Any) -> None:
        tokens = {
            "input_tokens": told.get("input_tokens"),
            "output_tokens": told.get("output_tokens"),
            "total_tokens": told.get("total_tokens"),
            "cache_read_tokens": (told.get("input_token_details") or {}).get("cache_read"),
            "reasoning_tokens": (told.get("output_token_details") or {}).get("reasoning"),
        }
        with self._lock:
            if model not in self._models and len(self._models) >= MODELS - 1:
                model = OTHER_MODELS
            counted = self._models.setdefault(model, {"calls": 0})
            counted["calls"] += 1
            for kind, count in tokens.items():
                if isinstance(count, int) and count > 0:
                    counted[kind] = min(counted.get(kind, 0) + int(count), MOST_TOKENS - 1)

    def totals(self) -> dict[str, dict[str, int]]:
        """`{model: {kind of token: count}}` so far; `{}` where no model told any."""
        with self._lock:
            return {model: dict(tokens) for model, tokens in self._models.items()}


def _model_of(message: Any) -> str:
    metadata = getattr(message, "response_metadata", None) or {}
    name = metadata.get("model_name") or metadata.get("model") or "unknown"
    return str(name)[:MODEL_CHARACTERS]
