"""Terminal output of the commands that read the log: lines, tables, progress of long work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import click

LINE_SECONDS = 5.0


def write(lines: Iterable[str]) -> None:
    """Write these lines; the process ends in silence when its reader has closed the pipe, as `head` does."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
    except BrokenPipeError:
        closed_pipe()


def closed_pipe() -> None:
    """The reader of the output has what it wanted: end, without a complaint when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table whose columns are as wide as what is in them; numbers stand on the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    right = [
        bool(texts) and all(row[n].replace(",", "").lstrip("-").isdigit() for row in texts) for n in range(len(head))
    ]
    widths = [max(len(name), *(len(row[n]) for row in texts), 0) for n, name in enumerate(head)]
    return [
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [list(head), *texts]
    ]


@contextmanager
def progress_bar(what: str, total: int, *, prints: bool = True) -> Iterator[Callable[[int], None] | None]:
    """A bar of so many `what`, on the error stream: None where that is no terminal, or what the command `prints`
    meanwhile goes there, too."""
    if not sys.stderr.isatty() or (prints and sys.stdout.isatty()) or not total:
        yield None
        return
    with click.progressbar(length=total, label=what, file=sys.stderr) as bar:
        yield bar.update


class RebuildProgress:
    """Shows how far a rebuild is: a bar on a terminal, else a line every `LINE_SECONDS`."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._done = 0
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label="event records", file=sys.stderr).__enter__()
            self._bar.update(done - self._done)
        elif (now := time.monotonic()) - self._shown >= LINE_SECONDS:
            self._shown = now
            rate = done / (now - self._begun)
            click.echo(f"{done:,} of {total:,} event records rebuilt, {rate:,.0f} per second", err=True)
        self._done = done

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, at)
