"""The encryption context of requests: what the header says, and what the application's handler makes of it.

Only where the application has encryption handlers; else the header has no effect.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from threadlog.api.auth.gate import caller_of
from threadlog.api.http.errors import ApiError
from threadlog.api.http.requests import header
from threadlog.engine.encryption.handlers import EncryptionHandlers
from threadlog.engine.encryption_context import CONTEXT, HEADER, InvalidContext, context_of_header
from threadlog.engine.user_code.user import User

_NOBODY = User({"identity": "", "is_authenticated": False})
"""Who asks where there is no authentication."""


def middleware(handlers: EncryptionHandlers) -> Middleware:
    """Innermost, behind the gate: `@encryption.context` gets the user."""

    @web.middleware
    async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
        text = header(request, HEADER)
        try:
            context = context_of_header(text) if text else {}
        except InvalidContext as error:
            raise ApiError(422, str(error), code="encryption_context_invalid") from None
        if handlers.has_context:
            caller = caller_of(request)
            if caller is None or not caller.trusted:  # the server's own code says itself what it wants
                context = await handlers.context(_NOBODY if caller is None else caller.user, context)
        CONTEXT.set(context)
        return await handler(request)

    return enter
