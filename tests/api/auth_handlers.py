"""An application's `Auth` for the tests: threads and assistants belong to who made them; the token is the identity."""

from __future__ import annotations

from typing import Any

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> dict[str, Any]:
    if authorization is None:
        raise Auth.exceptions.HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})
    identity = authorization.removeprefix("Bearer ")
    return {"identity": identity, "permissions": ["chat"], "team": f"of {identity}"}


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    if ctx.user.identity == "banned":
        return False
    if ctx.user.identity == "late":
        raise Auth.exceptions.HTTPException(403, "Not after ten")
    if ctx.resource == "store":
        value["namespace"] = [ctx.user.identity, *(value.get("namespace") or [])]
        return None
    owner = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(owner)
    return owner
