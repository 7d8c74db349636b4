"""The section `migrations` of `langgraph.json`, read and checked: what becomes of states of a graph's earlier versions.

A state's version is a number, 1 where nothing says another. The steps of a graph lead from 1 to its present version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadlog.engine.user_code.http_section import CodePlace, Raise, place_of

FIRST_VERSION = 1
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """`place`: of a function that makes values of version `to` of those of version `start`."""

    start: int
    to: int
    place: CodePlace


def read_migrations(
    value: Any, graphs: Collection[str], folder: Path, wrong: Raise
) -> dict[str, tuple[MigrationStep, ...]]:
    """The steps of each graph that the section names, by their first version; raises what `wrong` makes."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong("migrations", 'expected an object such as {"agent": [{"from": 1, "to": 2, "path": …}]}.')
    if unknown := [name for name in value if name not in graphs]:
        raise wrong(f"migrations.{unknown[0]}", "`graphs` has no such graph.")
    return {name: _steps(f"migrations.{name}", steps, folder, wrong) for name, steps in value.items()}


def _steps(key: str, value: Any, folder: Path, wrong: Raise) -> tuple[MigrationStep, ...]:
    if not isinstance(value, list) or not value:
        raise wrong(key, 'expected a list such as [{"from": 1, "to": 2, "path": "./migrations.py:to_2"}].')
    steps = sorted((_step(f"{key}.{index}", step, folder, wrong) for index, step in enumerate(value)), key=_start)
    starts = [step.start for step in steps]
    if twice := [start for start in starts if starts.count(start) > 1]:
        raise wrong(key, f"two steps begin at version {twice[0]}: one function has to be chosen.")
    present = max(step.to for step in steps)
    if FIRST_VERSION not in starts:
        raise wrong(key, f"no step begins at version {FIRST_VERSION}, which states have that no step has changed.")
    if missing := sorted({step.to for step in steps} - {present} - set(starts)):
        raise wrong(key, f"version {present} can't be reached from version {missing[0]}: no step begins there.")
    return tuple(steps)


def _step(key: str, value: Any, folder: Path, wrong: Raise) -> MigrationStep:
    if not isinstance(value, Mapping) or set(value) != {"from", "to", "path"}:
        raise wrong(key, 'expected an object with "from", "to" and "path".')
    start, to = value["from"], value["to"]
    for name, version in (("from", start), ("to", to)):
        if type(version) is not int or not FIRST_VERSION <= version <= _MOST:
            raise wrong(f"{key}.{name}", f"expected a version: a whole number from {FIRST_VERSION} on.")
    if to <= start:
        raise wrong(f"{key}.to", f"{to} is no later version than {start}.")
    return MigrationStep(start, to, place_of(value["path"], folder, f"{key}.path", wrong))


def _start(step: MigrationStep) -> int:
    return step.start
