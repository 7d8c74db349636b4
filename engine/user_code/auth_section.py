"""The section `auth` of `langgraph.json`, checked (contract 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOKEN_HEADER = "X-Threadlog-Loopback"
"""Header that proves that a request comes from the application's own code: with it the api asks for no credentials."""
_CACHE_TTL_SECONDS = 60
_CACHE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class AuthCache:
    """Results of `authenticate` are kept by the values of these headers, for so long, so many of them."""

    cache_keys: tuple[str, ...]
    ttl_seconds: float = _CACHE_TTL_SECONDS
    max_size: int = _CACHE_SIZE


@dataclass(frozen=True, slots=True)
class AuthSection:
    """Where the `Auth` object is (`source` is a Python file or a dotted module), and how it is used.

    `disable_studio_auth` None: not said. `openapi`: `securitySchemes` and `security` for the description of the api.
    """

    source: str
    attribute: str
    is_file: bool
    disable_studio_auth: bool | None = None
    cache: AuthCache | None = None
    openapi: Mapping[str, Any] = field(default_factory=dict)


class Wrong(ValueError):
    """`key` of the section can't be used."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key, self.problem = key, problem


def options_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an `AuthSection` besides the place of the object. Raises `Wrong`."""
    studio = section.get("disable_studio_auth")
    if studio is not None and not isinstance(studio, bool):
        raise Wrong("disable_studio_auth", "expected true or false.")
    return {
        "disable_studio_auth": studio,
        "cache": _cache(section.get("cache")),
        "openapi": _openapi(section.get("openapi")),
    }


def _cache(value: Any) -> AuthCache | None:
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise Wrong("cache", 'expected an object such as {"cache_keys": ["authorization"], "ttl_seconds": 60}.')
    for name in value:
        if name not in ("cache_keys", "ttl_seconds", "max_size"):
            raise Wrong(f"cache.{name}", "there is no such key. There are: cache_keys, ttl_seconds, max_size.")
    keys = value.get("cache_keys")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
        raise Wrong("cache.cache_keys", 'expected the names of request headers, such as ["authorization"].')
    ttl, size = value.get("ttl_seconds", _CACHE_TTL_SECONDS), value.get("max_size", _CACHE_SIZE)
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or ttl <= 0:
        raise Wrong("cache.ttl_seconds", "expected a number of seconds above 0.")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise Wrong("cache.max_size", "expected a number of at least 1.")
    return AuthCache(tuple(keys), float(ttl), size)


def _openapi(value: Any) -> Mapping[str, Any]:
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise Wrong("openapi", 'expected an object such as {"securitySchemes": {…}, "security": […]}.')
    kinds = {"securitySchemes": dict, "security": list, "paths": dict}
    for name, item in value.items():
        if name not in kinds:
            raise Wrong(f"openapi.{name}", f"there is no such key. There are: {', '.join(kinds)}.")
        if not isinstance(item, kinds[name]):
            raise Wrong(f"openapi.{name}", f"expected {'an object' if kinds[name] is dict else 'a list'}.")
    return value
