"""Asks the application's authorization handlers (`@auth.on`): may this user do that, and to which rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from threadlog.api.auth.caller import Caller
from threadlog.api.auth.errors import http_error
from threadlog.api.http.errors import ApiError
from threadlog.projections.queries.metadata_filter import InvalidMetadataFilter, MetadataFilter

if TYPE_CHECKING:
    from langgraph_sdk import Auth

Handler = Callable[..., Awaitable[Any]]

OF_ALL_USERS = frozenset({"usage", "system"})
"""Resources of threadlog's own that are about everybody: without a handler for them nothing of others is shown, as an
application that was written before them would allow them to all."""
NOTHING = MetadataFilter.parse({"$or": []})

_IDS = ("thread_id", "run_id", "assistant_id", "cron_id")


class Authorizer:
    """The handlers of an `Auth`; for each resource and action the most specific one decides."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._found: dict[tuple[str, str], Handler | None] = {}

    async def decide(self, caller: Caller, resource: str, action: str, value: dict[str, Any]) -> MetadataFilter | None:
        """Returns which rows the caller may touch (None: all); of `OF_ALL_USERS` none, where no handler decides.
        The handler may change `value`, in place.

        Ids are handed over as UUIDs, as in `langgraph_sdk.auth.types`, and are strings again afterwards.

        Raises:
            ApiError: 403, also of an assertion that fails, or what the handler raised.
        """
        handler = self._handler(resource, action)
        if handler is None:
            return NOTHING if resource in OF_ALL_USERS else None
        from langgraph_sdk.auth.types import AuthContext

        for name in _IDS:
            if isinstance(value.get(name), str):
                value[name] = UUID(value[name])
        what: Any = {"resource": resource, "action": action}
        context = AuthContext(permissions=list(caller.permissions), user=caller.user, **what)
        try:
            result = await handler(ctx=context, value=value)
        except AssertionError as error:  # how LangGraph's own examples refuse: assert namespace[0] == ctx.user.identity
            raise ApiError(403, str(error) or "Forbidden") from error
        except Exception as error:
            raise http_error(error, f"authorization of {resource}.{action}") from error
        for name in _IDS:
            if isinstance(value.get(name), UUID):
                value[name] = str(value[name])
        if result is None or result is True:
            return None
        if result is False:
            raise ApiError(403, "Forbidden")
        if not isinstance(result, Mapping):
            raise ApiError(
                500,
                f"The application's authorization of {resource}.{action} returned {type(result).__name__}; it must "
                "return a filter (a dict), True, False or None",
            )
        try:
            return MetadataFilter.parse(result)
        except InvalidMetadataFilter as error:
            raise ApiError(
                500, f"The application's authorization of {resource}.{action} returned an invalid filter: {error}"
            ) from None

    def _handler(self, resource: str, action: str) -> Handler | None:
        key = (resource, action)
        if key not in self._found:
            handlers = self._auth._handlers
            found = handlers.get(key) or handlers.get((resource, "*")) or handlers.get(("*", action))
            found = found or self._auth._global_handlers
            self._found[key] = found[-1] if found else None
        return self._found[key]
