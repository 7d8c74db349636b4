"""Tokens that the models of an attempt have used, as the executor counts them and the ends of attempts tell. Pure."""

from __future__ import annotations

from typing import Any

from threadlog.engine.domain.events.base import JsonObject

MODELS = 100
"""Models that one attempt names; the executor counts the others as `OTHER_MODELS`."""

OTHER_MODELS = "others"

MODEL_CHARACTERS = 200
"""The name of a model: a key of read models."""

MOST_TOKENS = 2**53
"""A JSON number beyond this is not exact for every reader of the log."""


def usage_of(outcome: JsonObject) -> JsonObject:
    """The `usage` of an attempt's outcome: `{model: {kind of token: count}}`, `{}` where it has none.

    Raises ValueError when that is not what it is.
    """
    usage: Any = outcome.get("usage")
    if usage is None:
        return {}
    if type(usage) is not dict or len(usage) > MODELS:
        raise ValueError(f"run.report: `usage` is not an object of at most {MODELS} models")
    for model, tokens in usage.items():
        if len(model) > MODEL_CHARACTERS:
            raise ValueError(f"run.report: a model's name is longer than {MODEL_CHARACTERS} characters")
        if type(tokens) is not dict or not all(
            type(count) is int and 0 <= count < MOST_TOKENS for count in tokens.values()
        ):
            raise ValueError("run.report: `usage` counts something else than tokens")
        if tokens.keys() - KINDS:
            raise ValueError(f"run.report: tokens of a model are {', '.join(sorted(KINDS))}")
    return usage


KINDS = frozenset({"input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "reasoning_tokens", "calls"})
"""`cache_read_tokens` are a part of the input, `reasoning_tokens` of the output; `calls` of the model, which ended."""
