"""Encryption handlers with a key for each tenant; of JSON they encrypt the fields `email` and `ssn`."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any

from cryptography.fernet import Fernet
from langgraph_sdk import Auth, Encryption
from langgraph_sdk.encryption.types import EncryptionContext

encryption = Encryption()
SECRET_FIELDS = ("email", "ssn")
PREFIX = "encrypted:"


def fernet(ctx: EncryptionContext) -> Fernet:
    tenant = ctx.metadata.get("tenant", "nobody")
    if tenant == "closed":
        raise Auth.exceptions.HTTPException(status_code=403, detail="This tenant's key is disabled")
    if tenant == "unknown":
        raise ValueError("there is no such tenant")
    if tenant == "broken":
        raise KeyError(tenant)
    return Fernet(urlsafe_b64encode(blake2b(str(tenant).encode(), digest_size=32).digest()))


@encryption.encrypt.blob
async def encrypt_blob(ctx: EncryptionContext, data: bytes) -> bytes:
    return fernet(ctx).encrypt(data)


@encryption.decrypt.blob
async def decrypt_blob(ctx: EncryptionContext, data: bytes) -> bytes:
    return fernet(ctx).decrypt(data)


@encryption.encrypt.json
async def encrypt_json(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    key = fernet(ctx)
    return {
        name: PREFIX + key.encrypt(json.dumps(value).encode()).decode() if name in SECRET_FIELDS else value
        for name, value in data.items()
    }


@encryption.decrypt.json
async def decrypt_json(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    key = fernet(ctx)
    return {
        name: json.loads(key.decrypt(value.removeprefix(PREFIX).encode()))
        if isinstance(value, str) and value.startswith(PREFIX)
        else value
        for name, value in data.items()
    }
