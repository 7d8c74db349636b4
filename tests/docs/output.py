"""Compares the output that a page shows with what a command printed: words have to be there, numbers may differ."""

from __future__ import annotations

import re

# What stands for something else in the next run, longest first: a shown one matches any.
_ANY = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", r"[0-9a-f-]{36}"),
    (r"(?:/[\w.~-]+){2,}", r"\S+"),  # a path
    (r"…", r".*"),
    (r"\d+(?:[.,]\d+)*", r"[\d.,]+"),
    (r"\s+", r"\s+"),
)
_PIECES = re.compile("|".join(f"({shown})" for shown, _ in _ANY))


def missing_line(shown: str, printed: str) -> str | None:
    """The first line that the page shows and that did not come after those before it; None if all came."""
    lines = iter(printed.splitlines())
    for wanted in shown.splitlines():
        if not wanted.strip() or wanted.strip() == "…":
            continue
        pattern = re.compile(_pattern(wanted.strip()))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            return wanted
    return None


def _pattern(shown: str) -> str:
    pattern, end = "", 0
    for piece in _PIECES.finditer(shown):
        assert piece.lastindex is not None
        pattern += re.escape(shown[end : piece.start()]) + _ANY[piece.lastindex - 1][1]
        end = piece.end()
    return pattern + re.escape(shown[end:])
