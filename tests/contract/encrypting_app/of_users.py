"""The same handlers, in a context that follows from who is authenticated; `greedy` hides what authorization reads."""

from __future__ import annotations

from typing import Any

import handlers  # type: ignore[import-not-found]
from langgraph_sdk import Encryption
from langgraph_sdk.encryption.types import EncryptionContext

encryption = Encryption()
encryption.encrypt.blob(handlers.encrypt_blob)
encryption.decrypt.blob(handlers.decrypt_blob)
encryption.decrypt.json(handlers.decrypt_json)


@encryption.context
async def context(user: Any, ctx: EncryptionContext) -> dict[str, Any]:
    return {**ctx.metadata, "tenant": user.identity}


@encryption.encrypt.json
async def encrypt_json(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    if ctx.metadata["tenant"] != "greedy":
        return await handlers.encrypt_json(ctx, data)
    return {name: f"hidden {value}" for name, value in data.items()}
