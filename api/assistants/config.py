"""Config rules of assistants and runs: `config.configurable` and `context` are two names of one thing."""

from __future__ import annotations

from threadlog.api.assistants.bodies import Config
from threadlog.api.http.bodies import JsonObject
from threadlog.api.http.errors import ApiError


def sync_config_and_context(
    config: Config | None, context: JsonObject | None
) -> tuple[JsonObject | None, JsonObject | None]:
    """`configurable` and `context` are two names of one thing: the one given fills the other; both are refused.

    An empty one beside the other is not given: it clears only alone.
    """
    merged = None if config is None else config.as_dict()
    configurable = (merged or {}).get("configurable")
    if configurable and context:
        raise ApiError(
            400, "Cannot specify both configurable and context. Use context: it is what config.configurable became."
        )
    if context or (context is not None and not configurable):
        merged = {**(merged or {}), "configurable": context}
    elif configurable is not None:
        context = configurable
    return merged, context
