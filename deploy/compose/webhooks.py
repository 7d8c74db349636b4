"""Composition of what delivers webhooks, beside the processor of an engine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import asyncpg

from threadlog.deploy.settings import Settings
from threadlog.engine.metrics import METRICS
from threadlog.engine.processor.processor import Processor
from threadlog.engine.user_code.langgraph_json import load
from threadlog.engine.user_code.langgraph_keys import sections_of
from threadlog.engine.user_code.webhook_rules import WebhookRules, webhook_rules
from threadlog.engine.webhooks.dispatcher import WebhookDispatcher
from threadlog.engine.webhooks.guard import Resolver, UrlGuard
from threadlog.engine.webhooks.schedule import RetrySchedule
from threadlog.engine.webhooks.sender import WebhookSender
from threadlog.engine.webhooks.signing import keys_of
from threadlog.projections.queries.webhooks import PostgresWebhookStore


@asynccontextmanager
async def delivering_webhooks(
    settings: Settings, pool: asyncpg.Pool, rules: WebhookRules, processor: Processor, *, own_url: str
) -> AsyncIterator[WebhookDispatcher]:
    """Deliver what the partitions of this processor owe; ends before the processor does. `own_url`: for paths."""
    resolver = Resolver()
    sender = sender_of(settings, UrlGuard(rules, resolver, own_url=own_url))
    dispatcher = WebhookDispatcher(PostgresWebhookStore(pool), processor, sender.send, schedule_of(settings))
    dispatcher.start()
    processor.when_owned(dispatcher.look)
    METRICS.gauges["webhooks_in_flight"] = lambda: {"": dispatcher.in_flight}
    try:
        yield dispatcher
    finally:
        METRICS.gauges.pop("webhooks_in_flight", None)
        await dispatcher.stop()
        await sender.aclose()
        resolver.close()


def sender_of(settings: Settings, guard: UrlGuard) -> WebhookSender:
    keys = keys_of(settings.webhook_secret or "")
    return WebhookSender(guard, keys, seconds=settings.webhook_timeout_seconds, user_agent=_user_agent())


def schedule_of(settings: Settings) -> RetrySchedule:
    return RetrySchedule(settings.webhook_attempts, settings.webhook_retry_seconds)


def rules_of(settings: Settings) -> WebhookRules:
    """The rules of the application's file; an engine by itself may have none, only the variables that stand for it.

    Raises:
        ConfigError, ValueError: they cannot be used.
    """
    file = settings.config / "langgraph.json" if settings.config.is_dir() else settings.config
    if file.exists():
        return load(file).webhooks
    sections = sections_of(os.environ)
    return webhook_rules(sections.get("LANGGRAPH_WEBHOOKS"), sections.get("LANGGRAPH_HTTP"), os.environ)


def _user_agent() -> str:
    try:
        return f"threadlog/{version('threadlog')}"
    except PackageNotFoundError:
        return "threadlog"
