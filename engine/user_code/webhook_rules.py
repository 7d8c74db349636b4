"""The section `webhooks` of `langgraph.json`: which URLs runs may name, and the headers that are sent to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENV_PREFIX = "LG_WEBHOOK_"
_TEMPLATE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What is sent anyway, and what only the client library can know.
_RESERVED = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """`private`: loopback and private addresses, and paths of this server, are allowed (`disable_loopback: false`).
    `allowed_domains`: host names, or `*.` and a domain, whose subdomains are meant; empty: every public host."""

    disabled: bool = False
    private: bool = False
    require_https: bool = False
    allowed_domains: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = ()
    max_url_length: int = 65_536
    headers: Mapping[str, str] = field(default_factory=dict)


_URL_KEYS: Mapping[str, type] = {
    "require_https": bool, "allowed_domains": list, "allowed_ports": list, "max_url_length": int,
    "disable_loopback": bool,
}  # fmt: skip
_WANTED = {bool: "true or false", list: "a list", int: "a whole number", dict: "an object", str: "a text"}


def webhook_rules(section: Any, http: Any, environment: Mapping[str, str]) -> WebhookRules:
    """The rules of the sections `webhooks` and `http` (None: not given).

    Raises:
        ValueError: one cannot be used; the message begins with its key.
    """
    disabled = isinstance(http, dict) and http.get("disable_webhooks") is True
    if section is None:
        return WebhookRules(disabled=disabled)
    _check("webhooks", section, {"env_prefix": str, "url": dict, "headers": dict})
    url: dict[str, Any] = section.get("url") or {}
    _check("webhooks.url", url, _URL_KEYS)
    domains, ports = url.get("allowed_domains") or [], url.get("allowed_ports") or []
    if not all(isinstance(domain, str) and domain for domain in domains):
        raise ValueError('webhooks.url.allowed_domains: expected host names such as "hooks.example.com".')
    if not all(type(port) is int and 0 < port < 65536 for port in ports):
        raise ValueError("webhooks.url.allowed_ports: expected numbers of ports.")
    if (longest := url.get("max_url_length", 65_536)) < 1:
        raise ValueError("webhooks.url.max_url_length: expected a number of characters.")
    prefix = section.get("env_prefix") or ENV_PREFIX
    return WebhookRules(
        disabled=disabled,
        private=url.get("disable_loopback") is False,
        require_https=url.get("require_https", bool(url)),  # whoever gives rules gives this one, unless it says no
        allowed_domains=tuple(domain.lower().rstrip(".") for domain in domains),
        allowed_ports=tuple(ports),
        max_url_length=min(longest, 65_536),
        headers={
            name: _value(name, text, prefix, environment) for name, text in (section.get("headers") or {}).items()
        },
    )


def _check(key: str, section: Any, known: Mapping[str, type]) -> None:
    if not isinstance(section, dict):
        raise ValueError(f"{key}: expected an object.")
    for name, value in section.items():
        kind = known.get(name)
        if kind is None:
            raise ValueError(f"{key}.{name}: there is no such key. There are: {', '.join(known)}.")
        if value is not None and type(value) is not kind:
            raise ValueError(f"{key}.{name}: expected {_WANTED[kind]}.")


def _value(name: str, text: Any, prefix: str, environment: Mapping[str, str]) -> str:
    key = f"webhooks.headers.{name}"
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{key}: this is not the name of a header.")
    if name.lower() in _RESERVED or name.lower().startswith("webhook-"):
        raise ValueError(f"{key}: this header is set by the server.")
    if not isinstance(text, str):
        raise ValueError(f"{key}: expected a text.")

    def replaced(match: re.Match[str]) -> str:
        variable = match[1]
        if not variable.startswith(prefix):
            raise ValueError(f"{key}: {variable} does not begin with {prefix} (webhooks.env_prefix).")
        if variable not in environment:
            raise ValueError(f"{key}: the environment has no {variable}.")
        return environment[variable]

    value = _TEMPLATE.sub(replaced, text)
    if "${{" in value and "${{" in text:
        raise ValueError(f"{key}: expected templates of the form ${{{{ env.{prefix}NAME }}}}.")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError(f"{key}: its value has a line break or control character.")
    return value
