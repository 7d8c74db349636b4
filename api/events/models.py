"""Requests and responses of the event-streaming protocol, for the description.

The commands and filters themselves are read by `commands` and `filters`: what is wrong with one is a protocol error,
with a code of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from threadlog.api.events.errors import Code
from threadlog.api.http.bodies import Body, JsonObject


class CommandRequest(Body):
    """A command: `method` is its name."""

    id: int
    method: str
    params: JsonObject | None = None


class FilterRequest(Body):
    """Which events of the thread."""

    channels: Annotated[list[str], Field(min_length=1)]
    namespaces: list[list[str]] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    since: Annotated[int | None, Field(ge=0, description="Only events after this sequence number")] = None


class CommandMeta(TypedDict):
    """`applied_through_seq`: every event up to this sequence number came before the response."""

    applied_through_seq: int


class CommandSucceededResponse(TypedDict):
    """What a command has returned."""

    type: Literal["success"]
    id: int
    result: JsonObject
    meta: CommandMeta


class CommandFailedResponse(TypedDict):
    """Why a command was not carried out; `id` as far as it had one."""

    type: Literal["error"]
    id: object
    error: Code
    message: str
