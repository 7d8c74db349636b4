"""Field types of request bodies, and their limits. Unknown fields are ignored; an error names the wrong field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from threadlog.api.http.limits import FILTER_KEYS, NAME_CHARACTERS, NAMES, TEXT_CHARACTERS, AtMost, shown, small
from threadlog.engine.domain.limits import INDEXED_BYTES, METADATA_KEYS

JsonObject = dict[str, Any]
SortOrder = Literal["asc", "desc"]


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("must be a UUID") from None


def moment(text: str) -> datetime:
    """A time of ISO-8601, in UTC where it has no offset. Raises `ValueError`, whose sentence follows a field's name."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"must be an ISO-8601 time, not {shown(text)}") from None


def _moment(value: Any) -> Any:
    return moment(value) if isinstance(value, str) else value  # pydantic has the sentence


CHARACTERS = "characters"
Uuid = Annotated[str, AfterValidator(_uuid), AtMost(NAME_CHARACTERS, CHARACTERS)]
Name = Annotated[str, AtMost(NAME_CHARACTERS, CHARACTERS)]
Indexed = Annotated[str, AtMost(INDEXED_BYTES // 4, CHARACTERS)]
Text = Annotated[str, AtMost(TEXT_CHARACTERS, CHARACTERS)]
Names = Annotated[list[Name], AtMost(NAMES)]
Metadata = Annotated[JsonObject, AfterValidator(small(METADATA_KEYS))]
Filter = Annotated[JsonObject, AfterValidator(small(FILTER_KEYS))]
Limit = Annotated[int, Field(ge=1, le=1000)]
Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 100})
]
Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Body(BaseModel):
    OPAQUE: ClassVar[tuple[str, ...]] = ()
    """Members that only the graph looks into: of a large body they stay JSON text, see `json_text.payloads`."""

    model_config = ConfigDict(extra="ignore", strict=True)
