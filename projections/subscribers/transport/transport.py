"""The entry point `threadlog` of the group `faust.transports`: what Faust makes consumers and producers with.

    faust.App("name", broker="threadlog://user:password@host/database")

A URL as of Postgres, with another scheme: everything but `topic_prefix` in its query goes to Postgres. One worker of an
app works at a time; others stand by. At least once, as on Kafka; `exactly_once` is refused.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from faust.transport import base
from yarl import URL

from threadlog.engine.log.port import LogUnavailable
from threadlog.engine.log.postgres.log import PostgresLog
from threadlog.engine.postgres.connection import CONNECT_SECONDS
from threadlog.engine.postgres.errors import PASSING
from threadlog.projections.subscribers.transport.consumer import LogConsumer
from threadlog.projections.subscribers.transport.producer import LogProducer
from threadlog.projections.subscribers.transport.topics import NO_LOG, SubscriberTopics

SCHEME = "threadlog"
DEFAULT_TOPIC_PREFIX = "threadlog."


_with_passwords: dict[str, str] = {}
"""DSNs of this process by their broker URLs: Faust prints URLs when a worker starts, so these have no password."""


def broker_url(dsn: str, *, topic_prefix: str = DEFAULT_TOPIC_PREFIX) -> str:
    """The broker of a log in the Postgres of this DSN, for this process; without the password of the DSN."""
    parts = urlsplit(dsn)
    user, _, host = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "password"]
    query.append(("topic_prefix", topic_prefix))
    netloc = f"{user.partition(':')[0]}@{host or 'localhost'}" if user else host or "localhost"
    # Percent-encoded, commas too: Faust splits URLs there.
    url = urlunsplit((SCHEME, netloc, parts.path or "/", urlencode(query), ""))
    _with_passwords[str(URL(url))] = dsn
    return url


def dsn_of(url: str) -> tuple[str, str]:
    """`(dsn, topic prefix)` of a broker URL. A `host` in the query, a socket's folder, is the one that counts."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("topic_prefix", DEFAULT_TOPIC_PREFIX)
    if (dsn := _with_passwords.get(str(URL(url)))) is not None:
        return dsn, prefix
    netloc = parts.netloc
    if "host" in query:
        user, at, _ = netloc.rpartition("@")
        netloc = user + at
    return urlunsplit(("postgresql", netloc, parts.path, urlencode(query), "")), prefix


async def open_log(url: str) -> PostgresLog:
    """The log at a broker URL, to read. Raises `LogUnavailable` where there is none."""
    dsn, _ = dsn_of(url)
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)
        try:
            partitions = await connection.fetchval("SELECT partitions FROM log_settings")
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError:
        raise LogUnavailable(NO_LOG) from None
    except PASSING as error:
        raise LogUnavailable(f"the log's database can't be reached: {error!r}") from error
    return await PostgresLog.create(dsn, partitions)


class Transport(base.Transport):  # type: ignore[misc]
    """Faust on the log in Postgres."""

    Consumer: ClassVar[Any] = LogConsumer
    Producer: ClassVar[Any] = LogProducer

    default_port = 5432
    driver_version = "threadlog"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.app.conf.processing_guarantee.value != "at_least_once":
            raise ValueError("threadlog:// delivers at least once: leave processing_guarantee as it is")
        self._topics: SubscriberTopics | None = None
        self._users = 0
        self._opening = asyncio.Lock()

    @property
    def dsn(self) -> str:
        return dsn_of(str(self.url[0]))[0]

    async def acquire(self) -> SubscriberTopics:
        """The connections that consumer and producer share; `release` them."""
        async with self._opening:
            if self._topics is None:
                dsn, prefix = dsn_of(str(self.url[0]))
                self._topics = await SubscriberTopics.open(dsn, topic_prefix=prefix)
            self._users += 1
            return self._topics

    async def release(self) -> None:
        self._users -= 1
        if not self._users and self._topics is not None:
            topics, self._topics = self._topics, None
            await topics.aclose()
