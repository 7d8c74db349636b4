"""Paths into rendered values: `values.messages[-1].content`."""

from __future__ import annotations

import re
from typing import Any

from threadlog.api.http.errors import ApiError
from threadlog.api.http.limits import shown

_ROOTS = ("values", "metadata", "config", "interrupts")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?\d{1,18})\]")  # more digits than any list has elements


def parse_path(alias: str, path: str) -> list[str | int]:
    """Returns the steps of a path like `values.messages[-1].content`. Raises `ApiError` 422 for anything else."""
    root = re.match(r"[a-z_]+", path)
    if root is None or root.group() not in _ROOTS:
        raise ApiError(422, f"extract.{alias[:100]}: {shown(path)} must begin with one of {', '.join(_ROOTS)}")
    steps: list[str | int] = [root.group()]
    at = root.end()
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ApiError(422, f"extract.{alias[:100]}: {shown(path)} is not a path like values.messages[-1].content")
        steps.append(step.group(1) if step.group(1) is not None else int(step.group(2)))
        at = step.end()
    return steps


def follow(value: Any, steps: list[str | int]) -> Any:
    """Returns the value at the end of the steps, None when one of them leads nowhere."""
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                return None
            value = value[step]
        else:
            if not isinstance(value, dict) or step not in value:
                return None
            value = value[step]
    return value
