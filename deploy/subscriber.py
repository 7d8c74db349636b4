"""Composition of a subscriber: the settings of the server beside it say where the log is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from threadlog.deploy.extras import STREAMS
from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings

if TYPE_CHECKING:
    from threadlog.projections.subscribers.app import SubscriberApp


def subscriber(name: str, **options: Any) -> SubscriberApp:
    """A Faust app whose agents may read `threadlog.events`, on the log of the server that is set up here.

    With KAFKA_BOOTSTRAP_SERVERS that is `kafka://`; else the log is in Postgres, that of DATABASE_URI or of the
    `threadlog up` that runs over THREADLOG_DATA_DIR. `name`: of the consumer group: two apps of one name share the
    work. `options`: of `faust.App`, but those that are fixed for subscribers.

    Raises:
        CannotRun: no server runs here, or faust-streaming is not installed.
        BadSettings: a setting can't be used.
    """
    from threadlog.deploy.compose.environment import apply
    from threadlog.engine.user_code.langgraph_json import ConfigError, load

    with suppress(ConfigError):  # an application's `env` is the server's, too
        apply(load("langgraph.json"))
    return app_of(Settings.load(), name, **options)


def app_of(settings: Settings, name: str, **options: Any) -> SubscriberApp:
    """The same with these settings."""
    if not STREAMS.installed:
        raise CannotRun(STREAMS.missing)
    from threadlog.projections.subscribers.app import SubscriberApp

    return SubscriberApp(
        name,
        broker=_broker(settings),
        topic_prefix=settings.topic_prefix,
        partitions=settings.partition_count,
        folder=settings.data_dir / "subscribers",
        **options,
    )


def _broker(settings: Settings) -> Any:
    if settings.kafka_bootstrap_servers:
        return [f"kafka://{address.strip()}" for address in settings.kafka_bootstrap_servers.split(",")]
    from threadlog.deploy.postgres import running_uri
    from threadlog.projections.subscribers.transport.transport import broker_url

    uri = settings.database_uri or running_uri(settings.data_dir / "postgres")
    if uri is None:
        raise CannotRun(
            f"no server runs over {settings.data_dir.absolute()}: start one with `threadlog up`, name its folder with "
            "THREADLOG_DATA_DIR, or set DATABASE_URI"
        )
    return broker_url(uri, topic_prefix=settings.topic_prefix)
