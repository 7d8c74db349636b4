"""Logging setup: readable lines, or one JSON object per line with LOG_JSON.

docs/operations.md ("Logs") lists the fields of a JSON line; their names are those of LangGraph's own server.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from threadlog.deploy.settings import Settings
from threadlog.engine import logging_context
from threadlog.engine.tracing import active as tracing

logger = logging.getLogger("threadlog")

PROCESS_NAME = "THREADLOG_PROCESS_NAME"  # set by a supervisor, which prefixes the lines of its children itself

# `of_process`: the process that a supervisor logs a line for. `message` and `asctime`: set by other formatters.
_NO_FIELDS = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "of_process"))
_COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}  # SGR parameters


class _Plain(logging.Formatter):
    """`12:00:00.123 INFO threadlog.engine: message`; under a supervisor the time is enough to tell lines apart."""

    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        level = f"{record.levelname:<7}"
        if self._color and record.levelname in _COLORS:
            level = f"\x1b[{_COLORS[record.levelname]}m{level}\x1b[0m"
        text = f"{at} {level} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _Json(logging.Formatter):
    """`{"timestamp", "level", "logger", "process", "event", …, "exception"?}`; `…`: what is in `extra`, and for loggers
    other than threadlog's the logging context; with traces `trace_id` and `span_id`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": getattr(record, "of_process", None) or os.environ.get(PROCESS_NAME) or str(record.process),
            "event": _message(record),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _NO_FIELDS}
        fields = extra if is_ours(record.name) else {**logging_context.fields(), **extra}
        line |= {name: value for name, value in fields.items() if name not in line}
        if (spans := tracing.active()) is not None and (not is_ours(record.name) or _of_this_task(extra)):
            line |= spans.ids()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return json.dumps(line, ensure_ascii=False, skipkeys=True, default=str)
        except Exception:  # user code may log what refers to itself, or raises where it is written
            return json.dumps({name: _shown(value) for name, value in line.items()}, ensure_ascii=False)


def _of_this_task(extra: Mapping[str, object]) -> bool:
    """Whether a line of threadlog's own is about the run or request that its task works for."""
    of_task = logging_context.fields()
    return any(name in of_task and of_task[name] == extra.get(name) for name in ("run_id", "request_id"))


def is_ours(name: str) -> bool:
    """Whether this is one of threadlog's own loggers: they know which run a line is about, and `extra` names it."""
    return name == "threadlog" or name.startswith("threadlog.")


def configure_logging(settings: Settings) -> None:
    """Log to standard error from now on, at the level and in the form of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_json else _Plain(color=colored(settings, sys.stderr)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    if settings.log_json:
        _log_what_python_prints()
    if root.level > logging.DEBUG:
        # These speak of every request and every metadata refresh.
        for chatty in ("aiohttp.access", "aiokafka", "asyncio", "httpx", "httpcore", "watchfiles"):
            logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
        # Their users report what is wrong, once: a pool without a database writes a traceback per connection, a topic
        # that is about to be made is not an error, and what a WebSocket's client asks for is its own affair.
        for resigned in ("asyncpg.pool", "aiokafka.cluster", "aiohttp.websocket"):
            logging.getLogger(resigned).setLevel(logging.CRITICAL)


def colored(settings: Settings, stream: TextIO) -> bool:
    """Whether readable lines that go to this stream have colors."""
    if settings.log_color is not None:
        return settings.log_color
    return stream.isatty() and not os.environ.get("NO_COLOR")


def log_line_of(process: str, line: str) -> None:
    """Log a line that another process has written. One that is a JSON object is passed on as it is."""
    if _is_object(line):
        print(line, flush=True)
    else:
        logger.info("%s", line, extra={"of_process": process})


def report_failure(sentence: str) -> None:
    """Write the sentence with which this process ends; its logging may not have been configured yet."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    wanted = os.environ.get("LOG_JSON", "").strip().lower() in ("1", "true", "t", "yes", "y", "on")
    if wanted or any(isinstance(formatter, _Json) for formatter in formatters):
        record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, sentence, (), None)
        print(_Json().format(record), file=sys.stderr, flush=True)
    else:
        print(f"threadlog: {sentence}", file=sys.stderr, flush=True)


def _log_what_python_prints() -> None:
    """Warnings, and exceptions that end the process or a thread, become lines of the log, too."""

    def ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            logger.critical("the process ends: %s", kind.__name__, exc_info=(kind, error, trace))

    def thread_ended(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            name = args.thread.name if args.thread else "unknown"
            logger.error("the thread %s ends", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))

    logging.captureWarnings(True)
    sys.excepthook, threading.excepthook = ended, thread_ended


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # user code: its arguments don't fit its text
        return f"{record.msg!r} {_shown(record.args)}"


def _shown(value: object) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _is_object(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
