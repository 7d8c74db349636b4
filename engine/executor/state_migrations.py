"""State migrations of one graph: values of a checkpoint of an earlier version are made those of the present one.

A version is a number; a checkpoint that tells none has the first. What is put says the present one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadlog.engine.user_code.importing import describe_error, import_source, without_folders
from threadlog.engine.user_code.migrations_section import FIRST_VERSION, MigrationStep

VERSION = "state_version"
"""Field of a stored checkpoint; absent for the first version. Not of its metadata, which clients have a say in."""

# Channels that are LangGraph's own: which node runs next, what a run was given.
_INTERNAL_PREFIXES = ("branch:", "join:", "start:")
_INTERNAL = frozenset({"__start__", "__pregel_tasks", "__no_writes__", "__error__", "__interrupt__", "__resume__"})

Migrate = Callable[..., Any]


class StateMigrationFailed(RuntimeError):
    """A migration could not be applied. The message names the graph, the versions and the reason."""


class StateTooNew(RuntimeError):
    """A thread's state was written by a later version of its graph: only that, or a later one, can go on with it."""


@dataclass(frozen=True, slots=True)
class StateMigrations:
    """`steps`: from a version to the next one with the function between; empty: the graph is at its first version.
    `folder`: the application's, for errors."""

    graph_id: str
    steps: Mapping[int, tuple[int, Migrate]] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def present(self) -> int:
        """The version of what this code puts."""
        return max((to for to, _ in self.steps.values()), default=FIRST_VERSION)

    def version_of(self, checkpoint: Mapping[str, Any]) -> int:
        version = checkpoint.get(VERSION, FIRST_VERSION)
        return version if isinstance(version, int) else FIRST_VERSION

    def concern(self, ns: str, checkpoint: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
        """Whether the values of this checkpoint have to be migrated. Another graph's on the same thread have not.

        Raises:
            StateTooNew: it is ahead of this code.
        """
        version = self.version_of(checkpoint)
        if version == self.present or metadata.get("graph_id") != self.graph_id:
            return False
        if version > self.present:
            raise StateTooNew(
                f"The state of this thread has version {version}, this version of graph {self.graph_id} knows states "
                f"up to {self.present}: it has been deployed anew meanwhile. Run it there."
            )
        return not ns or any(_takes_namespace(migrate) for _, migrate in self._chain(version))

    def migrated(self, ns: str, version: int, values: dict[str, Any]) -> dict[str, Any]:
        """The values of the present version. `values` are the caller's own, and may be changed.

        Raises:
            StateMigrationFailed: a function raised, or did not return a dict.
        """
        at = version
        for to, migrate in self._chain(version):
            named = _takes_namespace(migrate)
            if not ns or named:
                values = self._applied(migrate, at, to, (values, _nodes(ns)) if named else (values,))
            at = to
        return values

    def _applied(self, migrate: Migrate, start: int, to: int, args: tuple[Any, ...]) -> dict[str, Any]:
        what = f"The state can't be migrated from version {start} to {to} of graph {self.graph_id}"
        try:
            made = migrate(*args)
        except Exception as error:
            why = without_folders(describe_error(error, self.folder))
            raise StateMigrationFailed(f"{what}: {why}") from error
        if not isinstance(made, dict) or not all(isinstance(name, str) for name in made):
            raise StateMigrationFailed(f"{what}: {_name(migrate)} returned {type(made).__name__}, not the new values.")
        if internal := sorted(filter(is_internal, made)):
            raise StateMigrationFailed(f"{what}: {_name(migrate)} returned {internal[0]}, which is LangGraph's own.")
        return made

    def _chain(self, version: int) -> Sequence[tuple[int, Migrate]]:
        chain = []
        while (step := self.steps.get(version)) is not None:
            chain.append(step)
            version = step[0]
        return chain


def load_migrations(graph_id: str, steps: Sequence[MigrationStep]) -> StateMigrations:
    """Import the functions. Raises ValueError, with a sentence, where one can't be used."""
    found: dict[int, tuple[int, Migrate]] = {}
    for step in steps:
        place = step.place
        name = f"{place.source}:{place.attribute}"
        try:
            migrate = getattr(import_source(place.source, is_file=place.is_file), place.attribute, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a SystemExit in user code, too
            raise ValueError(f"{name} cannot be imported: {describe_error(error, place.folder)}") from None
        if not callable(migrate) or inspect.iscoroutinefunction(migrate):
            raise ValueError(f"{name} is no function that takes a dict of values and returns the new ones")
        found[step.start] = (step.to, migrate)
    return StateMigrations(graph_id, found, steps[0].place.folder)


def is_internal(channel: str) -> bool:
    """Whether a channel is LangGraph's own, which migrations do not see."""
    return channel in _INTERNAL or channel.startswith(_INTERNAL_PREFIXES)


def is_delta(value: Any) -> bool:
    """Whether a stored value is that of a channel kept as deltas, which migrations do not see."""
    return type(value).__name__ == "_DeltaSnapshot"


def _takes_namespace(migrate: Migrate) -> bool:
    try:
        parameters = list(inspect.signature(migrate).parameters.values())
    except (TypeError, ValueError):
        return False
    return len([p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]) >= 2


def _nodes(ns: str) -> tuple[str, ...]:
    """The nodes whose graphs a namespace is of: `("child",)` of `child:<task id>`."""
    return tuple(part.partition(":")[0] for part in ns.split("|") if part and not part.isdigit())


def _name(migrate: Migrate) -> str:
    return str(getattr(migrate, "__name__", migrate))
