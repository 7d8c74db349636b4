"""The section `http` of `langgraph.json`, read and checked (contract 9.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from threadlog.engine.user_code.auth_section import TOKEN_HEADER

Raise = Callable[[str, str], Exception]
"""Makes the error for a key and what is wrong with it."""

FLAGS = ("assistants", "threads", "runs", "store", "crons", "mcp", "a2a", "meta", "ui", "webhooks")
"""What `disable_…` names."""

_CORS_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("allow_origins", "allow_methods", "allow_headers", "expose_headers"), list),
    "allow_credentials": bool,
    "allow_origin_regex": str,
    "max_age": int,
}
_NEVER = frozenset(("x-api-key", "x-tenant-id", "x-service-key", "authorization", "cookie"))
_SECRET = TOKEN_HEADER.lower()  # of this server itself: in a run it would be seen by all who may read that
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where an object of the application is: `source` is a Python file or a dotted module, `attribute` a name in it."""

    source: str
    attribute: str
    is_file: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """Which request headers count, by name with `*` and `?`; an exclusion wins. Secrets only where they are named."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def chosen(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that count, by their names in lower case."""
        if not self.includes:
            return {}
        return {name: value for name, value in ((n.lower(), v) for n, v in headers.items()) if self._counts(name)}

    def _counts(self, name: str) -> bool:
        if name == _SECRET:
            return False
        if name in self.excludes or any(fnmatchcase(name, pattern) for pattern in self.excludes):
            return False
        if name in self.includes:
            return True
        return name not in _NEVER and any(fnmatchcase(name, pattern) for pattern in self.includes)


@dataclass(frozen=True, slots=True)
class HttpSection:
    """What the section asks for. `cors`: its keys that are given. `disabled`: names of `FLAGS`."""

    app: CodePlace | None = None
    cors: dict[str, Any] = field(default_factory=dict)
    configurable_headers: HeaderRule = field(default_factory=HeaderRule)
    logging_headers: HeaderRule = field(default_factory=HeaderRule)
    middleware_order: Literal["middleware_first", "auth_first"] = "middleware_first"
    enable_custom_route_auth: bool = False
    mount_prefix: str = ""
    disabled: frozenset[str] = frozenset()


def place_of(text: Any, folder: Path, key: str, wrong: Raise) -> CodePlace:
    """`path/to/file.py:name` or `package.module:name`; raises what `wrong` makes."""
    source, colon, attribute = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not colon or not source or not attribute.isidentifier():
        raise wrong(key, f'"{text}" does not name an object. Write "path/to/file.py:name" or "package.module:name".')
    is_file = "/" in source or "\\" in source or source.endswith(".py")
    if not is_file:
        return CodePlace(source, attribute, False, folder)
    location = (folder / source).resolve()
    if not location.is_file() or location.suffix != ".py":
        raise wrong(key, f"{location} is no Python file. Correct the path (it is relative to this file).")
    return CodePlace(str(location), attribute, True, folder)


def read_http(value: Any, folder: Path, environment: Mapping[str, str], wrong: Raise) -> HttpSection:
    """The section, and the variable MOUNT_PREFIX, which its `mount_prefix` wins over; raises what `wrong` makes."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise wrong("http", 'expected an object such as {"cors": {"allow_origins": ["https://…"]}}.')
    order: Any = value.get("middleware_order") or "middleware_first"
    if order not in ("middleware_first", "auth_first"):
        raise wrong("http.middleware_order", 'expected "middleware_first" or "auth_first".')
    flags = {f"disable_{name}": name for name in FLAGS}
    for key in (*flags, "enable_custom_route_auth"):
        if not isinstance(value.get(key, False), bool):
            raise wrong(f"http.{key}", "expected true or false.")
    return HttpSection(
        app=place_of(value["app"], folder, "http.app", wrong) if value.get("app") else None,
        cors=_cors(value.get("cors"), wrong),
        configurable_headers=_headers(value, "configurable_headers", wrong),
        logging_headers=_headers(value, "logging_headers", wrong),
        middleware_order=order,
        enable_custom_route_auth=value.get("enable_custom_route_auth", False),
        mount_prefix=_mount_prefix(value.get("mount_prefix"), environment.get("MOUNT_PREFIX", ""), wrong),
        disabled=frozenset(name for key, name in flags.items() if value.get(key)),
    )


def _mount_prefix(given: Any, variable: str, wrong: Raise) -> str:
    if not isinstance(given or "", str):
        raise wrong("http.mount_prefix", 'expected a path such as "/agents".')
    prefix = (given or variable).rstrip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise wrong("http.mount_prefix" if given else "MOUNT_PREFIX", 'expected a path such as "/agents".')
    return prefix


def _headers(section: dict[str, Any], name: str, wrong: Raise) -> HeaderRule:
    key, value = f"http.{name}", section.get(name)
    if value is None:
        return HeaderRule()
    if not isinstance(value, dict) or set(value) - {"includes", "excludes", "include", "exclude"}:
        raise wrong(key, 'expected an object such as {"includes": ["x-tenant-*"], "excludes": ["x-secret"]}.')
    lists = []
    for kind in ("include", "exclude"):
        patterns = value.get(f"{kind}s", value.get(kind)) or []
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise wrong(f"{key}.{kind}s", 'expected a list of names, with * for any text: ["x-tenant-*"].')
        lists.append(tuple(pattern.lower() for pattern in patterns))
    return HeaderRule(*lists)


def _cors(value: Any, wrong: Raise) -> dict[str, Any]:
    cors = value or {}
    if not isinstance(cors, dict):
        raise wrong("http.cors", 'expected an object such as {"allow_origins": ["https://…"]}.')
    for name, given in cors.items():
        kind = _CORS_KINDS.get(name)
        if kind is None:
            raise wrong(f"http.cors.{name}", f"there is no such key. There are: {', '.join(_CORS_KINDS)}.")
        texts = not isinstance(given, list) or all(isinstance(item, str) for item in given)
        if type(given) is not kind or not texts:
            wanted = {list: "a list of texts", bool: "true or false", str: "a text", int: "a number of seconds"}[kind]
            raise wrong(f"http.cors.{name}", f"expected {wanted}.")
    try:
        re.compile(cors.get("allow_origin_regex", ""))
    except re.error as error:
        raise wrong("http.cors.allow_origin_regex", f"this is no regular expression ({error}).") from None
    return cors
