"""Where webhooks may be sent to: addresses in every form, rules of the application, what its file may say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from threadlog.engine.user_code.webhook_rules import WebhookRules, webhook_rules
from threadlog.engine.webhooks import guard as guard_module
from threadlog.engine.webhooks.addresses import Address, literal, refusal
from threadlog.engine.webhooks.guard import Resolver, UrlGuard, WebhookRefused

BLOCKED = [
    "127.0.0.1", "127.1", "0x7f000001", "0x7f.1", "2130706433", "017700000001", "[::1]", "[::ffff:127.0.0.1]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "0x0a.1", "172.16.3.4", "192.168.1.1",
    "[::ffff:10.0.0.1]", "[fd00::1]", "[fc00::1]", "169.254.169.254", "[64:ff9b::a9fe:a9fe]",
    "[::ffff:169.254.169.254]", "[fe80::1%25eth0]", "0.0.0.0", "[::]", "100.64.0.1", "100.100.100.200",
    "168.63.129.16", "198.18.0.1", "192.0.0.192", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[fec0::1]",
    "[ff02::1]", "[2001:db8::1]", "[64:ff9b:1::1]", "[fd00:ec2::254]",
]  # fmt: skip
ALWAYS_BLOCKED = [
    "169.254.169.254",
    "[fe80::1]",
    "0.0.0.0",
    "224.0.0.1",
    "168.63.129.16",
    "[fd00:ec2::254]",
    "240.0.0.1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "[2606:4700:4700::1111]", "[64:ff9b::808:808]", "134744072"]


def guard(*resolves: str, rules: WebhookRules | None = None) -> UrlGuard:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        if not resolves:
            raise OSError("no such host")
        return [ip_address(text) for text in resolves]

    return UrlGuard(rules or WebhookRules(), resolve, own_url="http://127.0.0.1:2024")


@pytest.mark.parametrize("host", BLOCKED)
async def test_no_form_of_an_address_that_is_not_public_passes(host: str) -> None:
    with pytest.raises(WebhookRefused, match="blocked"):
        await guard().check(f"https://{host}/hook")


@pytest.mark.parametrize("host", PUBLIC)
async def test_public_addresses_pass(host: str) -> None:
    await guard().check(f"http://{host}:8080/hook")


@pytest.mark.parametrize("host", ALWAYS_BLOCKED)
async def test_metadata_addresses_are_blocked_also_where_private_ones_are_allowed(host: str) -> None:
    with pytest.raises(WebhookRefused, match="blocked"):
        await guard(rules=WebhookRules(private=True)).check(f"https://{host}/hook")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "[fd00::1]", "[::ffff:192.168.0.1]"])
async def test_private_addresses_pass_where_they_are_allowed(host: str) -> None:
    await guard(rules=WebhookRules(private=True)).check(f"http://{host}/hook")


async def test_a_name_is_blocked_if_one_of_its_addresses_is() -> None:
    await guard("8.8.8.8").check("https://hooks.example.org/")
    with pytest.raises(WebhookRefused, match="loopback IP range"):
        await guard("8.8.8.8", "127.0.0.1").check("https://hooks.example.org/")
    with pytest.raises(WebhookRefused, match="DNS resolution failed"):
        await guard().check("https://hooks.example.org/")


RULES = WebhookRules(
    require_https=True, allowed_domains=("hooks.example.org", "*.internal.example.org"), allowed_ports=(443, 8443),
    max_url_length=100,
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.org/", "Webhook must use https"),
        ("https://example.org/", "Webhook domain not allowed"),
        ("https://internal.example.org/", "Webhook domain not allowed"),
        ("https://evilinternal.example.org/", "Webhook domain not allowed"),
        ("https://hooks.example.org.evil.org/", "Webhook domain not allowed"),
        ("https://hooks.example.org@evil.org/", "Webhook domain not allowed"),
        ("https://hooks.example.org:80/", "Webhook port 80 not allowed"),
        ("https://hooks.example.org/" + "a" * 100, "Webhook URL too long"),
        ("/hooks", "Loopback webhooks"),
        ("//hooks.example.org/", "Webhook must use https"),
        ("https://hooks.example.org/a b", "Invalid webhook URL"),
        ("https://hooks.example.org\\@evil.org/", "Invalid webhook URL"),
        ("https://[oops/", "Invalid webhook hostname"),
        ("https://hooks.example.org:port/", "Invalid webhook hostname"),
        ("https:///path", "Invalid webhook hostname ''"),
    ],
)
async def test_rules_are_kept(url: str, said: str) -> None:
    with pytest.raises(WebhookRefused) as refused:
        await guard("8.8.8.8", rules=RULES).check(url)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.org/", "https://HOOKS.example.org.:8443", "https://a.internal.example.org"]
)
async def test_what_keeps_the_rules_passes(url: str) -> None:
    await guard("8.8.8.8", rules=RULES).check(url)


async def test_a_path_is_sent_to_this_server_where_that_is_allowed() -> None:
    assert guard(rules=WebhookRules(private=True)).absolute("/hooks") == "http://127.0.0.1:2024/hooks"


def test_an_address_in_another_form_is_written_out_for_the_client_library() -> None:
    absolute = guard(rules=WebhookRules(private=True)).absolute
    assert absolute("http://127.1:9000/hook?a=1") == "http://127.0.0.1:9000/hook?a=1"
    assert absolute("https://ann:secret@134744072/") == "https://ann:secret@8.8.8.8:443/"
    assert absolute("https://8.8.8.8/") == "https://8.8.8.8/" and absolute("https://[::1]/") == "https://[::1]/"


async def test_names_that_hang_hold_up_nobody_who_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    go_on = threading.Event()

    def addresses(host: str) -> list[str]:
        asked.append(host)
        if host.startswith("hanging"):
            go_on.wait(60)
        return ["8.8.8.8"]

    monkeypatch.setattr(guard_module, "_addresses", addresses)
    resolver = Resolver(threads=2)
    urls = UrlGuard(WebhookRules(), resolver, own_url="http://127.0.0.1:2024")
    try:
        first = [asyncio.create_task(urls.check("https://hanging.example/")) for _ in range(20)]
        while not asked:
            await asyncio.sleep(0.01)
        await urls.check("https://quick.example/")  # twenty that wait for one name have one thread
        second = asyncio.create_task(urls.check("https://hanging2.example/"))
        while "hanging2.example" not in asked:
            await asyncio.sleep(0.01)
        await urls.check("https://another.example/")  # accepted unseen: it is looked at again before a connection
        with pytest.raises(OSError, match="2 other names wait"):
            await urls.resolved("another.example", 443)
        first[0].cancel()
        go_on.set()
        await asyncio.gather(*first[1:], second)
        await urls.check("https://another.example/")
    finally:
        go_on.set()
        resolver.close()
    assert asked == ["hanging.example", "quick.example", "hanging2.example", "another.example"]


async def test_nothing_is_sent_where_webhooks_are_disabled() -> None:
    rules = webhook_rules(None, {"disable_webhooks": True}, {})
    with pytest.raises(WebhookRefused, match="disabled"):
        await guard("8.8.8.8", rules=rules).check("https://example.org/")


def test_a_host_name_is_no_address() -> None:
    assert literal("example.org") is None and literal("") is None and literal("1.2.3.4.5") is None
    assert refusal(ip_address("8.8.8.8"), private=False) is None


def test_headers_are_filled_from_the_environment() -> None:
    section = {"headers": {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "X-Both": "${{env.LG_WEBHOOK_A}}-b"}}
    rules = webhook_rules(section, None, {"LG_WEBHOOK_TOKEN": "t", "LG_WEBHOOK_A": "a"})
    assert rules.headers == {"Authorization": "Bearer t", "X-Both": "a-b"} and not rules.require_https


def test_whoever_gives_rules_for_urls_asks_for_https_unless_they_say_no() -> None:
    assert webhook_rules({"url": {"disable_loopback": False}}, None, {}).require_https
    assert not webhook_rules({"url": {"require_https": False, "disable_loopback": False}}, None, {}).require_https


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ([], "webhooks: expected an object"),
        ({"urls": {}}, "webhooks.urls: there is no such key"),
        ({"url": {"allowed_ports": ["443"]}}, "webhooks.url.allowed_ports: expected"),
        ({"url": {"allowed_domains": [""]}}, "webhooks.url.allowed_domains: expected"),
        ({"url": {"require_https": "yes"}}, "webhooks.url.require_https: expected true or false"),
        ({"url": {"max_url_length": 0}}, "webhooks.url.max_url_length: expected"),
        ({"headers": {"X-A": "${{ env.HOME }}"}}, "webhooks.headers.X-A: HOME does not begin with LG_WEBHOOK_"),
        ({"headers": {"X-A": "${{ env.LG_WEBHOOK_NO }}"}}, "webhooks.headers.X-A: the environment has no LG_"),
        ({"headers": {"X-A": "${{ secret }}"}}, "webhooks.headers.X-A: expected templates"),
        ({"headers": {"X-A": "a\r\nX-B: c"}}, "webhooks.headers.X-A: its value has a line break"),
        ({"headers": {"webhook-id": "1"}}, "webhooks.headers.webhook-id: this header is set by the server"),
        ({"headers": {"Host": "x"}}, "webhooks.headers.Host: this header is set by the server"),
        ({"headers": {"X A": "x"}}, "webhooks.headers.X A: this is not the name of a header"),
        ({"headers": {"X-A": 1}}, "webhooks.headers.X-A: expected a text"),
    ],
)  # fmt: skip
def test_what_the_file_may_not_say(section: Any, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        webhook_rules(section, None, {"HOME": "/root"})
    assert str(refused.value).startswith(said)
