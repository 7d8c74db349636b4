"""Logging setup: readable lines, or one JSON object per line with LOG_JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from threadlog.deploy.settings import Settings

PROCESS_NAME = "THREADLOG_PROCESS_NAME"  # set by a supervisor, which prefixes the lines of its children itself


class _Plain(logging.Formatter):
    """`12:00:00.123 INFO threadlog.engine: message`; under a supervisor the time is enough to tell lines apart."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        text = f"{at} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _Json(logging.Formatter):
    """`{"at", "level", "logger", "process", "message", "exception"?}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": os.environ.get(PROCESS_NAME) or str(record.process),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings) -> None:
    """Log to standard error from now on, at the level and in the form of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_json else _Plain())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    if root.level > logging.DEBUG:
        # These speak of every request and every metadata refresh.
        for chatty in ("aiohttp.access", "aiokafka", "asyncio", "httpx", "httpcore", "watchfiles"):
            logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
        # Their users report what is wrong, once: a pool without a database writes a traceback per connection, a topic
        # that is about to be made is not an error, and what a WebSocket's client asks for is its own affair.
        for resigned in ("asyncpg.pool", "aiokafka.cluster", "aiohttp.websocket"):
            logging.getLogger(resigned).setLevel(logging.CRITICAL)
