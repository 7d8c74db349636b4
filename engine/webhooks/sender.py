"""HTTP client of webhooks: one POST to an address that was checked, without redirects, proxies or cookies."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from threadlog.engine.tracing import active as tracing
from threadlog.engine.webhooks.guard import NamesBusy, UrlGuard, WebhookRefused
from threadlog.engine.webhooks.schedule import retry_after
from threadlog.engine.webhooks.signing import signature

E = TypeVar("E", bound=BaseException)

_TRIED_AGAIN = frozenset({408, 425, 429})  # of the statuses that say that the request is at fault


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one POST. `failed` may be tried again, after `retry_after_seconds` if the receiver said so."""

    outcome: Literal["delivered", "failed", "dead"]
    status: int | None = None
    reason: str | None = None
    retry_after_seconds: float | None = None

    @property
    def answered(self) -> bool:
        """Whether there was a response."""
        return self.status is not None


class WebhookSender:
    """One per process; `aclose` it. `keys`: of the signatures, without any there is none. `seconds`: for all of it."""

    def __init__(self, guard: UrlGuard, keys: Sequence[bytes], *, seconds: float, user_agent: str) -> None:
        self._guard, self._keys, self._seconds = guard, keys, seconds
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def send(self, webhook: str, id: str, body: bytes) -> Delivery:
        """POST the body. Whatever goes wrong is in what is returned; raised is `NamesBusy`, of what was not begun."""
        try:
            url = self._guard.absolute(webhook)
            async with self._open().post(
                url, data=body, headers=self._headers(url, id, body), allow_redirects=False
            ) as response:
                return _of_response(response.status, response.headers)
        except WebhookRefused as error:
            return Delivery("dead", reason=str(error))
        except TimeoutError as error:
            if (busy := _cause(error, NamesBusy)) is not None:
                raise busy from None
            return Delivery("failed", reason=f"no response within {self._seconds:g} s")
        except aiohttp.InvalidURL:
            return Delivery("dead", reason="this is not a URL")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if (busy := _cause(error, NamesBusy)) is not None:
                raise busy from None
            if (refused := _cause(error, WebhookRefused)) is not None:
                return Delivery("dead", reason=str(refused))
            return Delivery("failed", reason=f"{type(error).__name__}: {error}"[:300])

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _headers(self, url: str, id: str, body: bytes) -> dict[str, str]:
        now = int(time.time())
        configured = self._guard.rules.headers
        if urlsplit(url).username is not None:  # who names a user in the URL has said how to authenticate
            configured = {name: value for name, value in configured.items() if name.lower() != "authorization"}
        headers = {
            **configured,
            "Content-Type": "application/json",
            "User-Agent": self._user_agent,
            "webhook-id": id,
            "webhook-timestamp": str(now),
        }
        if (spans := tracing.active()) is not None:
            headers |= spans.headers()
        if self._keys:
            headers["webhook-signature"] = signature(self._keys, id, now, body)
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._guard), use_dns_cache=False, force_close=True, limit=0,
                socket_factory=self._socket,
            )  # fmt: skip
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session

    def _socket(self, address: Any) -> socket.socket:
        """The last gate: every connection is made with a socket from here, also to a host that is an address itself."""
        family, type_, protocol, _, place = address
        self._guard.check_address(ip_address(str(place[0]).partition("%")[0]))
        return socket.socket(family, type_, protocol)


class _CheckedResolver(AbstractResolver):
    """Returns addresses that were checked, and these are connected to: no second look-up can return others."""

    def __init__(self, guard: UrlGuard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.resolved(host, port)
        ]

    async def close(self) -> None:
        pass


def _of_response(status: int, headers: Mapping[str, str]) -> Delivery:
    if 200 <= status < 300:
        return Delivery("delivered", status)
    if 300 <= status < 400:
        return Delivery("dead", status, "redirects are not followed")
    if 400 <= status < 500 and status not in _TRIED_AGAIN:
        return Delivery("dead", status, "the receiver refused it")
    return Delivery("failed", status, None, retry_after(headers.get("Retry-After"), datetime.now(UTC)))


def _cause(error: BaseException | None, kind: type[E]) -> E | None:
    """The error of this kind that made a connection fail, through whatever it was raised again as."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, kind):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
