"""What all commands are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Json = Any
JsonObject = dict[str, Any]
CancelAction = Literal["interrupt", "rollback"]
MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands; `type` is the name on the wire.

    `schema_version`: the second number counts what was added, each a field with a default. Any other change makes
    another command, with a type of its own: what is in the log is decided as it was meant.
    """

    type: ClassVar[str] = ""
    schema_version: ClassVar[str] = "1.0"
