"""Lines of the log: what they carry as JSON, whatever user code logs, and how they look to people."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from threadlog.deploy.logs import PROCESS_NAME, colored, configure_logging, log_line_of, report_failure
from threadlog.deploy.settings import Settings
from threadlog.engine.logging_context import set_fields

mine = logging.getLogger("an.application")
ours = logging.getLogger("threadlog.engine")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    for name in (PROCESS_NAME, "LOG_JSON", "LOG_LEVEL", "LOG_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    logging.captureWarnings(False)


Written = pytest.CaptureFixture[str]


def lines(capsys: Written) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_names_what_is_in_extra(capsys: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESS_NAME, "executor-2")
    configure_logging(Settings.load(log_json=True))
    try:
        raise ValueError("no")
    except ValueError:
        ours.exception("run %s failed", "r", extra={"run_id": "r", "partition": 3, "offset": 14})
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("+00:00")
    assert line.pop("exception").endswith("ValueError: no")
    assert line == {
        "level": "error", "logger": "threadlog.engine", "process": "executor-2", "event": "run r failed",
        "run_id": "r", "partition": 3, "offset": 14,
    }  # fmt: skip


async def test_what_user_code_logs_has_the_fields_of_its_task(capsys: Written) -> None:
    configure_logging(Settings.load(log_json=True))

    async def attempt(run_id: str) -> None:
        set_fields({"run_id": run_id, "run_attempt": 1})
        mine.info("from the loop")
        await asyncio.to_thread(mine.info, "from a thread", extra={"run_attempt": "its own"})
        ours.info("a task that works for many runs")

    await asyncio.create_task(attempt("a"))
    await asyncio.create_task(attempt("b"))
    mine.info("beside them")
    assert [(line["event"], line.get("run_id"), line.get("run_attempt")) for line in lines(capsys)] == [
        ("from the loop", "a", 1),
        ("from a thread", "a", "its own"),
        ("a task that works for many runs", None, None),
        ("from the loop", "b", 1),
        ("from a thread", "b", "its own"),
        ("a task that works for many runs", None, None),
        ("beside them", None, None),
    ]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_whatever_user_code_logs_is_one_object_on_one_line(capsys: Written) -> None:
    configure_logging(Settings.load(log_json=True))
    itself: list[Any] = []
    itself.append(itself)
    mine.info("two\nlines", extra={"a": {1, 2}, "b": {(1, 2): 3}, "c": b"\xff", "level": "not the level"})
    mine.info("%d of %d", "three")
    mine.info("its own part", extra={"it": itself})
    mine.info("raises", extra={"it": Unprintable()})
    found = lines(capsys)
    assert [line["event"] for line in found] == [
        "two\nlines", "'%d of %d' ('three',)", "its own part", "raises",
    ]  # fmt: skip
    assert {line["level"] for line in found} == {"info"}
    assert found[3]["it"] == "<Unprintable>"


def test_warnings_and_what_ends_a_thread_or_the_process_are_lines_too(capsys: Written) -> None:
    configure_logging(Settings.load(log_json=True))
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 / 0, name="worker")
    thread.start()
    thread.join()
    try:
        raise OSError("disk")
    except OSError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warned, thread_ended, ended = lines(capsys)
    assert warned["logger"] == "py.warnings" and "DeprecationWarning: old" in warned["event"]
    assert thread_ended["event"] == "the thread worker ends" and "ZeroDivisionError" in thread_ended["exception"]
    assert ended["level"] == "critical" and ended["exception"].endswith("OSError: disk")


def test_a_line_of_another_process_is_passed_on_or_named(capsys: Written) -> None:
    configure_logging(Settings.load(log_json=True))
    log_line_of("executor-1", '{"event": "complete"}')
    log_line_of("executor-1", "{'printed': 'by a node'}")
    log_line_of("executor-1", "{broken")
    passed_on, logged = capsys.readouterr()
    assert json.loads(passed_on) == {"event": "complete"}
    assert [(line["process"], line["event"]) for line in map(json.loads, logged.splitlines())] == [
        ("executor-1", "{'printed': 'by a node'}"),
        ("executor-1", "{broken"),
    ]


def test_the_last_sentence_of_a_process_has_the_form_of_its_log(
    capsys: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_failure("a setting can't be used")
    assert capsys.readouterr().err == "threadlog: a setting can't be used\n"
    monkeypatch.setenv("LOG_JSON", "true")  # read before there are settings
    report_failure("a setting can't be used")
    (line,) = lines(capsys)
    assert (line["level"], line["event"]) == ("error", "a setting can't be used")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colors_are_for_terminals_unless_one_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert colored(Settings.load(), Terminal()) and not colored(Settings.load(), io.StringIO())
    assert colored(Settings.load(log_color=True), io.StringIO())
    assert not colored(Settings.load(log_color=False), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colored(Settings.load(), Terminal())
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    configure_logging(Settings.load(log_color=True))
    mine.warning("look")
    assert stream.getvalue().endswith(" \x1b[33mWARNING\x1b[0m an.application: look\n")
