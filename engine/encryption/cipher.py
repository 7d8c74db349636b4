"""Authenticated encryption (AES-GCM) of content with data keys, and of data keys with the installation's key.

Encrypted JSON is a *token*, a JSON string that stands where the value stood: `~enc1:` and base64url of key id, nonce
and ciphertext. A token is replaced in JSON text without parsing it (`open_text`). Encrypted bytes begin with `MAGIC`.
Both name the data key they need, so that readers with encryption take what was written before it was on as it is.
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from threadlog.engine.domain.text import SEALED
from threadlog.engine.encryption_context import Context

MAGIC = b"\x00~enc1:\x00"
KEY_ID_BYTES, _NONCE_BYTES, DATA_KEY_BYTES = 8, 12, 32
_HEAD = len(MAGIC)
_MARK = f'"{SEALED}'
_MARK_BYTES = _MARK.encode()
# Not the name of a field: those are never encrypted.
_TOKEN = re.compile(rf'"{SEALED}([A-Za-z0-9_-]{{48,}})"(?!\s*:)')
_TOKEN_LINE = re.compile(rf'^"{SEALED}([A-Za-z0-9_-]{{48,}})"$'.encode(), re.MULTILINE)
_PREFIX = SEALED.encode()


class WrongKey(ValueError):
    """A data key that was encrypted with another installation key, or ciphertext that was changed."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one thread's content (or another aggregate's). `owner`: the aggregate's id; `id`: names the key;
    `context`: the encryption context in which it was made."""

    owner: str
    id: bytes
    secret: bytes = field(repr=False)
    _aes: Any = field(repr=False, compare=False)
    context: Context | None = field(default=None, compare=False)

    @staticmethod
    def of(owner: str, id: bytes, secret: bytes, context: Context | None = None) -> DataKey:
        return DataKey(owner, id, secret, _aes_gcm(secret), context)

    @staticmethod
    def new(owner: str, context: Context | None = None) -> DataKey:
        return DataKey.of(owner, os.urandom(KEY_ID_BYTES), os.urandom(DATA_KEY_BYTES), context)

    @property
    def naming_key(self) -> bytes:
        """The key of the hashes that name stored values: without it nobody can tell whether a value is stored."""
        return blake2b(b"names of values", key=self.secret, digest_size=32).digest()

    def seal(self, data: bytes) -> bytes:
        """Bytes as they are stored."""
        return MAGIC + self.encrypted(data)

    def seal_json(self, json: bytes) -> bytes:
        """The token, in quotes, of a JSON value."""
        return b'"%b%b"' % (_PREFIX, urlsafe_b64encode(self.encrypted(json)).rstrip(b"="))

    def token(self, value: Any) -> str:
        """The token of a value that orjson can write."""
        return self.seal_json(orjson.dumps(value))[1:-1].decode("ascii")

    def open(self, sealed: bytes, use: bytes = b"") -> bytes:
        """What `sealed` (key id, nonce, ciphertext) holds, if it was encrypted for this use. Raises `WrongKey`."""
        start = KEY_ID_BYTES + _NONCE_BYTES
        return _decrypted(self._aes, sealed[KEY_ID_BYTES:start], sealed[start:], self.id + use)

    def encrypted(self, data: bytes, use: bytes = b"") -> bytes:
        """Key id, nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        encrypted: bytes = self._aes.encrypt(nonce, data, self.id + use)
        return self.id + nonce + encrypted


KnownKeys = Callable[[bytes], DataKey | None]
"""The data key of an id, None if there is none (any more)."""


def is_token(value: object) -> bool:
    """Whether a value of parsed JSON is encrypted."""
    return type(value) is str and value.startswith(SEALED)


def may_be_sealed(value: object) -> bool:
    """Whether a column's value has something encrypted in it."""
    if type(value) is str:
        return _MARK in value
    return type(value) is bytes and value.startswith(MAGIC)


def has_token(json: bytes) -> bool:
    """Whether JSON text may have a token in it."""
    return _MARK_BYTES in json


def key_ids(value: str | bytes) -> set[bytes]:
    """The ids of the keys that JSON text, or stored bytes, need."""
    if isinstance(value, str):
        return {_key_id(found[1].encode()) for found in _TOKEN.finditer(value)}
    return {value[_HEAD : _HEAD + KEY_ID_BYTES]} if value.startswith(MAGIC) else set()


def key_ids_of_lines(lines: bytes) -> set[bytes]:
    """The ids of the keys that lines need of which some are tokens."""
    return {_key_id(found[1]) for found in _TOKEN_LINE.finditer(lines)}


def open_text(text: str, known: KnownKeys) -> str:
    """JSON text with the values of its tokens; those without a key stay. Raises `WrongKey`."""

    def opened(found: re.Match[str]) -> str:
        value = _opened(found[1].encode(), known)
        return found[0] if value is None else value.decode()

    return _TOKEN.sub(opened, text)


def open_lines(lines: bytes, known: KnownKeys) -> bytes:
    """Lines with the values of those that are tokens; `null` for one without a key. Raises `WrongKey`."""

    def opened(found: re.Match[bytes]) -> bytes:
        value = _opened(found[1], known)
        return b"null" if value is None else value

    return _TOKEN_LINE.sub(opened, lines)


def open_bytes(stored: bytes, known: KnownKeys) -> bytes | None:
    """What stored bytes hold, None without their key; as they are if they are not encrypted. Raises `WrongKey`."""
    if not stored.startswith(MAGIC):
        return stored
    key = known(stored[_HEAD : _HEAD + KEY_ID_BYTES])
    return None if key is None else key.open(stored[_HEAD:])


def _opened(encoded: bytes, known: KnownKeys) -> bytes | None:
    sealed = _decoded(encoded)
    key = known(sealed[:KEY_ID_BYTES])
    return None if key is None else key.open(sealed)


def _key_id(encoded: bytes) -> bytes:
    return _decoded(encoded[:12])[:KEY_ID_BYTES]


def _decoded(encoded: bytes) -> bytes:
    return urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))


class MasterKeys:
    """The installation's key, and those it had before, which still decrypt the data keys of their time."""

    def __init__(self, current: str, old: Sequence[str] = ()) -> None:
        """Raises ValueError for a key that is not 16, 24 or 32 bytes long."""
        secrets = [_master_secret(text) for text in (current, *old)]
        self._by_name = {_name(secret): _aes_gcm(secret) for secret in secrets}
        self.name = _name(secrets[0])
        """Of the current one: what is stored beside a data key, and tells nothing of the key."""

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def wrap(self, key: DataKey) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        wrapped: bytes = self._by_name[self.name].encrypt(nonce, key.secret, _bound(key.owner, key.id))
        return nonce + wrapped

    def unwrap(self, owner: str, id: bytes, wrapped: bytes, name: str) -> DataKey:
        """Raises `WrongKey`."""
        if (aes := self._by_name.get(name)) is None:
            raise WrongKey(f"the data key of {owner} was encrypted with another LANGGRAPH_AES_KEY")
        secret = _decrypted(aes, wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _bound(owner, id))
        return DataKey.of(owner, id, secret)


def _bound(owner: str, id: bytes) -> bytes:
    """What a wrapped key is authenticated with: it is of use for this aggregate alone."""
    return owner.encode() + b"\0" + id


def _master_secret(text: str) -> bytes:
    secret = text.encode()
    if len(secret) not in (16, 24, 32):
        raise ValueError(f"a key has to be 16, 24 or 32 bytes long, this one has {len(secret)}")
    return secret


def _name(secret: bytes) -> str:
    return blake2b(b"name of a key", key=secret, digest_size=8).hexdigest()


def _aes_gcm(secret: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra of the package

    return AESGCM(secret)


def _decrypted(aes: Any, nonce: bytes, data: bytes, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        decrypted: bytes = aes.decrypt(nonce, data, bound)
    except (InvalidTag, ValueError):
        raise WrongKey("encrypted data does not fit its key: it was changed, or is another installation's") from None
    return decrypted
