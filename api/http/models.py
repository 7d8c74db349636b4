"""Field types of responses, and what the models of all resources share.

The model of a response is a `TypedDict`: a handler's dictionary is checked against it by mypy and costs no more than
without, and /openapi.json is generated from it. Its name ends in `Response`, which the description leaves out.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from threadlog.api.http.errors import ErrorCode

Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
AnyObject = dict[str, Any]
Count = int


class ErrorResponse(TypedDict):
    """Why the request was refused, or what could not be done."""

    detail: Annotated[str, Field(description="What is wrong, and what to do")]
    code: Annotated[ErrorCode, Field(description="What it is, for programs")]


class EmptyResponse(TypedDict):
    """Nothing: it is done."""


class StreamEvent(TypedDict):
    """One event of a stream."""

    event: str
    data: Annotated[str, Field(description="JSON", json_schema_extra={"contentMediaType": "application/json"})]
    id: NotRequired[Annotated[str, Field(description="Where to go on after it: the `Last-Event-ID` of a reconnect")]]


def fields_of(model: Any) -> frozenset[str]:
    """The names that `select` may have for this response."""
    return frozenset(get_type_hints(model))


def list_of_selected(model: Any) -> Any:
    """The type of a list of this response from which `select` takes fields: of those of its items none is required."""
    name = model.__name__.removesuffix("Response")
    fields = TypedDict(f"Selected{name}Response", get_type_hints(model, include_extras=True), total=False)  # type: ignore
    fields.__doc__ = f"A {name}: all of it, or the fields that `select` names."
    return list[fields]
