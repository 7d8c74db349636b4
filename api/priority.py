"""The application's `langgraph_sdk.Priority`: how urgent the runs of a thread are, asked at the first run of a thread
without settings (contract 9.2, statement 184)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from threadlog.api.http.errors import ApiError
from threadlog.engine.domain.commands import JsonObject
from threadlog.engine.domain.priority import check_priority
from threadlog.engine.run_builder import AssistantDefaults
from threadlog.engine.user_code.http_section import CodePlace
from threadlog.engine.user_code.importing import describe_error, import_source
from threadlog.engine.user_code.user import User

if TYPE_CHECKING:
    from langgraph_sdk.priority.types import PriorityContext

logger = logging.getLogger(__name__)

Assign = Callable[["PriorityContext"], Awaitable[Any]]


class PriorityError(Exception):
    """The function can't be loaded; the message says why."""


_NOBODY = User({"identity": "", "is_authenticated": False})
"""Who asks where there is no authentication."""


def load(place: CodePlace) -> Assign:
    """Import the function. To be called in a thread without an event loop: modules may run one when imported.

    Raises:
        PriorityError: there is no such object, it has no function, or its module raises.
    """
    try:
        from langgraph_sdk import Priority
    except ImportError:
        raise PriorityError("priority needs langgraph-sdk 0.4.12 or newer: install it.") from None
    try:
        module = import_source(place.source, is_file=place.is_file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PriorityError(f"priority cannot be imported: {describe_error(error, place.folder)}") from error
    found = getattr(module, place.attribute, None)
    if not isinstance(found, Priority):
        what = "missing" if found is None else f"a {type(found).__name__}"
        raise PriorityError(
            f'priority: "{place.attribute}" in {place.source} is {what}. Expected a langgraph_sdk.Priority.'
        )
    assign: Assign | None = found._assign_handler
    if assign is None:
        raise PriorityError(f'priority: "{place.attribute}" in {place.source} has no function under @assign.')
    return assign


async def settings_for(
    assign: Assign,
    *,
    user: Any,
    permissions: Sequence[str],
    thread_id: str | None,
    thread_metadata: Mapping[str, Any],
    assistant: AssistantDefaults,
    run_metadata: Mapping[str, Any] | None,
) -> JsonObject:
    """What the function says of a thread, in its wire form. Raises `ApiError` 500 where it fails."""
    from langgraph_sdk.priority.types import PriorityContext

    context = PriorityContext(
        user=_NOBODY if user is None else user,
        permissions=permissions,
        thread_id=thread_id,
        thread_metadata=dict(thread_metadata),
        assistant_id=assistant.assistant_id,
        graph_id=assistant.graph_id,
        assistant_metadata=dict(assistant.metadata),
        run_metadata=dict(run_metadata or {}),
        cron_id=None,
    )
    try:
        return check_priority(await assign(context)).wire
    except Exception as error:
        logger.exception("the priority function failed for thread %s", thread_id)
        raise ApiError(500, f"The application's priority function failed: {type(error).__name__}: {error}") from error
