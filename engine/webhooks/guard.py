"""Checks the URL of a webhook: when a run is created, and before each connection once its host is resolved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

from threadlog.engine.user_code.webhook_rules import WebhookRules
from threadlog.engine.webhooks.addresses import Address, literal, refusal

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""The addresses of a host and port. Raises `OSError`."""

RESOLVE_SECONDS = 5.0
_SCHEMES = {"https": 443, "http": 80}
_NO_LOOPBACK = (
    "Loopback webhooks (relative URLs and localhost) are disabled by default: they would reach the server from within. "
    "Allow them with webhooks.url.disable_loopback: false in langgraph.json."
)


class WebhookRefused(ValueError):
    """Nothing is sent to this URL; the message says why, in the words of LangGraph Server."""


class NamesBusy(TimeoutError):
    """Every thread waits for a name server: the name has not been asked for."""


class Resolver:
    """Resolves hosts in threads of its own. Who asks for a name that is under way shares its response, so that a name
    server that is slow holds up one thread for each of its names, and nobody else's work."""

    def __init__(self, threads: int = 32) -> None:
        self._most = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="webhook-dns")
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        """Raises `OSError`; `NamesBusy` at once, if every thread waits for a name server."""
        under_way = self._under_way.get(host) or self._begin(host)
        await asyncio.wait({under_way})  # which goes on if this is cancelled
        return [ip_address(text.partition("%")[0]) for text in under_way.result()]

    def _begin(self, host: str) -> asyncio.Future[list[str]]:
        if len(self._under_way) >= self._most:
            raise NamesBusy(f"{self._most} other names wait for their name servers")
        under_way = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)
        self._under_way[host] = under_way
        under_way.add_done_callback(lambda done: self._end(host, done))
        return under_way

    def _end(self, host: str, done: asyncio.Future[list[str]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            done.exception()  # whoever asked may have gone

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is too long, or empty
        raise OSError(str(error)) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class UrlGuard:
    """The rules of one application. `own_url`: where paths are sent, this server."""

    def __init__(self, rules: WebhookRules, resolve: Resolve, *, own_url: str) -> None:
        self.rules = rules
        self._resolve = resolve
        self._own_url = own_url.rstrip("/")

    def absolute(self, webhook: str) -> str:
        """The URL that a webhook names, checked as far as its text goes. Raises `WebhookRefused`."""
        rules = self.rules
        if rules.disabled:
            raise WebhookRefused("Webhooks are disabled here (http.disable_webhooks)")
        if len(webhook) > rules.max_url_length:
            raise WebhookRefused("Webhook URL too long")
        if webhook.startswith("/") and not webhook.startswith("//"):
            if not rules.private:
                raise WebhookRefused(_NO_LOOPBACK)
            return self._own_url + webhook
        try:
            parts = urlsplit(webhook)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise WebhookRefused("Invalid webhook hostname") from None
        if any(ord(character) < 33 or character == "\\" for character in webhook.strip()):
            raise WebhookRefused("Invalid webhook URL: it has a space, line break or backslash")
        if rules.require_https and parts.scheme != "https":
            raise WebhookRefused("Webhook must use https")
        if parts.scheme not in ("", *_SCHEMES):
            raise WebhookRefused(f"Webhook host blocked: scheme '{parts.scheme}' not allowed")
        if not host or not parts.scheme:
            raise WebhookRefused(f"Invalid webhook hostname '{host}'")
        if rules.allowed_domains and not any(_within(host, domain) for domain in rules.allowed_domains):
            raise WebhookRefused("Webhook domain not allowed")
        port = _SCHEMES[parts.scheme] if port is None else port
        if rules.allowed_ports and port not in rules.allowed_ports:
            raise WebhookRefused(f"Webhook port {port} not allowed")
        if not rules.private and (host == "localhost" or host.endswith(".localhost")):
            raise WebhookRefused("Webhook host blocked: localhost address")
        if (address := literal(host)) is None:
            return webhook.strip()
        self.check_address(address)
        if not isinstance(address, IPv4Address) or host == str(address):
            return webhook.strip()
        # `127.1`, `2130706433`: forms that resolvers take and the client library does not.
        user = parts.netloc.rpartition("@")[0]
        place = f"{address}:{port}"
        return parts._replace(netloc=f"{user}@{place}" if user else place).geturl()

    def check_address(self, address: Address) -> None:
        """Raises `WebhookRefused`."""
        if (why := refusal(address, private=self.rules.private)) is not None:
            raise WebhookRefused(f"Webhook host blocked: {why}")

    async def resolved(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of a host, all of which are allowed. Raises `WebhookRefused`, or `OSError`."""
        if (address := literal(host)) is not None:
            addresses: Sequence[Address] = [address]
        else:
            addresses = await self._resolve(host, port)
        for address in addresses:
            self.check_address(address)
        return addresses

    async def check(self, webhook: str) -> None:
        """Everything that can be told when a run is created. Raises `WebhookRefused`.

        A name server that does not respond in time is no reason to refuse: what counts is checked before each
        connection.
        """
        url = self.absolute(webhook)
        if webhook.startswith("/"):
            return
        parts = urlsplit(url)
        try:
            await asyncio.wait_for(self.resolved(parts.hostname or "", parts.port or 0), RESOLVE_SECONDS)
        except TimeoutError:
            return
        except OSError:
            raise WebhookRefused("Webhook host blocked: DNS resolution failed") from None


def _within(host: str, domain: str) -> bool:
    return host.endswith(domain[1:]) and len(host) >= len(domain) if domain.startswith("*.") else host == domain
