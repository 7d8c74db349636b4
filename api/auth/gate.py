"""The gate: every request passes it before its handler, and no response leaves before what it rests on was decided.

Each handler declares the accesses that it needs (`api.http.routes.requires`). The gate authenticates the caller; the
handler asks `allowed` for each access once it knows what is to be touched, and reads or changes only rows that the
returned filter lets through. A handler that forgets to ask responds with 500; one that declares nothing does so to all.
Without `auth` in `langgraph.json` there is no gate, and `allowed` returns at once.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from threadlog.api.auth.authentication import Authenticator
from threadlog.api.auth.authorization import Authorizer
from threadlog.api.auth.caller import ACTOR, SERVER, Caller, studio
from threadlog.api.http.errors import ApiError
from threadlog.api.http.request_keys import RequestKey
from threadlog.api.http.routes import Access
from threadlog.api.http.websockets import Refusal, is_handshake, refuse
from threadlog.engine.encryption_context import PROTECTED
from threadlog.engine.user_code.auth_section import TOKEN_HEADER, AuthSection
from threadlog.projections.queries.metadata_filter import MetadataFilter

if TYPE_CHECKING:
    from langgraph_sdk import Auth

logger = logging.getLogger(__name__)

_STUDIO = "langgraph-studio-user"
_CALLER: RequestKey[Caller] = RequestKey("caller", Caller)
_PENDING: RequestKey[set[str]] = RequestKey("pending accesses", set)


class Gate:
    """`token`: what requests of this server's own code bring along; `studio`: LangGraph Studio is let in unproven;
    `custom_routes`: the application's own routes need a user, too; `first`: before the application's own middleware.

    Raises:
        ValueError: `auth` can't be used; the message says why.
    """

    def __init__(
        self,
        auth: Auth,
        section: AuthSection,
        *,
        token: str,
        studio: bool,
        custom_routes: bool = False,
        first: bool = False,
    ) -> None:
        handler = auth._authenticate_handler
        if handler is None:
            raise ValueError("it has no @auth.authenticate handler")
        self._authenticator = Authenticator(handler, section.cache)
        self._authorizer = Authorizer(auth)
        self._token, self._studio = token.encode(), studio
        self.custom_routes = custom_routes
        self.comes_first = first or custom_routes
        self._accesses: dict[Any, Access | None] = {}

    def guards(self, routes: Sequence[web.AbstractRoute], access: Access | None) -> None:
        """The routes need these accesses; None: they declare none, so they are closed."""
        self._accesses.update(dict.fromkeys(routes, access))

    def middleware(self) -> Middleware:
        @web.middleware
        async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = request.match_info.route
            if route not in self._accesses:  # the application's own, or there is none
                if self.custom_routes:
                    request[_CALLER] = caller = await self._caller(request)
                    # As `request["user"]`, where handlers of aiohttp applications look for it; set so, it warns.
                    request._state["user"] = caller.user
                    ACTOR.set(caller.actor)
                return await handler(request)
            access = self._accesses[route]
            if access is None:
                raise ApiError(500, "This route declares no access, so nobody may use it")
            if access:
                try:
                    caller = await self._caller(request)
                except ApiError as error:
                    if is_handshake(request):
                        return await refuse(request, error)
                    raise
                request[_CALLER], request[_PENDING] = caller, set(access)
                ACTOR.set(caller.actor)
            response = await handler(request)
            self._check(request, response)
            return response

        return enter

    async def before_response(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal handler of `on_response_prepare`: streams begin within their handler."""
        self._check(request, response)

    async def allowed(self, request: web.Request, access: str, value: dict[str, Any]) -> MetadataFilter | None:
        request[_PENDING].discard(access)
        caller = request[_CALLER]
        if caller.trusted:
            return None
        resource, _, action = access.partition(".")
        only = await self._authorizer.decide(caller, resource, action, value)
        if only is not None:
            PROTECTED.set(PROTECTED.get() | only.names)
        return only

    async def _caller(self, request: web.Request) -> Caller:
        token = request.headers.get(TOKEN_HEADER)
        if token is not None:
            if hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
                return SERVER
            raise ApiError(401, "This is not a client of the application's own code")
        if self._studio and request.headers.get("X-Auth-Scheme") == "langsmith":
            from langgraph_sdk.auth.types import StudioUser

            return studio(StudioUser(_STUDIO, is_authenticated=True))
        return await self._authenticator.caller(request)

    def _check(self, request: web.Request, response: web.StreamResponse) -> None:
        pending = request.get(_PENDING)
        if pending and response.status < 400 and not isinstance(response, Refusal):
            raise RuntimeError(f"{request.method} {request.path} responds without having asked for {sorted(pending)}")


GATE: web.AppKey[Gate] = web.AppKey("gate", Gate)


async def allowed(request: web.Request, access: str, value: dict[str, Any] | None = None) -> MetadataFilter | None:
    """Decide an access of the request's caller; returns the filter that rows must pass, None: all of them.

    `access`: as the handler declares it, `resource.action`. `value` (contract 8): what the application's handler sees,
    and may change; read it again afterwards.

    Raises:
        ApiError: 403, or what the handler raised.
    """
    gate = request.app.get(GATE)
    return None if gate is None else await gate.allowed(request, access, {} if value is None else value)


def needless(request: web.Request, access: str) -> None:
    """A declared access that this request turned out not to need."""
    if (pending := request.get(_PENDING)) is not None:
        pending.discard(access)


def all_needless(request: web.Request) -> None:
    """The request is answered without anything that an access is for, as one that says nothing sensible."""
    if (pending := request.get(_PENDING)) is not None:
        pending.clear()


def caller_of(request: web.Request) -> Caller | None:
    """None where nobody is authenticated."""
    return request.get(_CALLER)


def metadata_in(value: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata` of a value that the application's handler has seen, and perhaps changed."""
    metadata = value.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise ApiError(500, "The application's authorization made `metadata` something else than a dict")
    return metadata
