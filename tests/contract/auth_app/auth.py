"""Threads belong to their makers and members, other rows to their makers; ids are tokens, `viewer-…` may only look."""

from __future__ import annotations

from typing import Any

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes], method: str, path: str) -> dict[str, Any]:
    token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
    if not token:
        raise Auth.exceptions.HTTPException(401, "Send a token", {"WWW-Authenticate": "Bearer"})
    return {"identity": token, "permissions": ["look"], "team": f"of {token}"}


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    owner = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(owner)
    return owner


@auth.on.threads
async def members(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    if ctx.user.identity.startswith("viewer-") and ctx.action not in ("read", "search"):
        return False
    if ctx.action in ("create", "create_run"):
        value.setdefault("metadata", {})["owner"] = ctx.user.identity
        if ctx.user.identity == "cid" and ctx.action == "create":
            return None
    me = ctx.user.identity
    team = {"members": {"$contains": [me, "everybody"]}}
    return {"$or": [{"owner": me}, {"members": {"$contains": me}}, team]}


@auth.on.store
async def own_namespace(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    value["namespace"] = (ctx.user.identity, *(value.get("namespace") or ()))
