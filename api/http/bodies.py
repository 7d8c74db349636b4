"""Field types of request bodies, and their limits. Unknown fields are ignored; an error names the wrong field."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from threadlog.api.http.limits import FILTER_KEYS, NAME_CHARACTERS, NAMES, TEXT_CHARACTERS, AtMost, small
from threadlog.engine.domain.limits import INDEXED_BYTES, METADATA_KEYS

JsonObject = dict[str, Any]
SortOrder = Literal["asc", "desc"]


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("must be a UUID") from None


CHARACTERS = "characters"
Uuid = Annotated[str, AfterValidator(_uuid), AtMost(NAME_CHARACTERS, CHARACTERS)]
Name = Annotated[str, AtMost(NAME_CHARACTERS, CHARACTERS)]
Indexed = Annotated[str, AtMost(INDEXED_BYTES // 4, CHARACTERS)]
Text = Annotated[str, AtMost(TEXT_CHARACTERS, CHARACTERS)]
Names = Annotated[list[Name], AtMost(NAMES)]
Metadata = Annotated[JsonObject, AfterValidator(small(METADATA_KEYS))]
Filter = Annotated[JsonObject, AfterValidator(small(FILTER_KEYS))]
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Body(BaseModel):
    OPAQUE: ClassVar[tuple[str, ...]] = ()
    """Members that only the graph looks into: of a large body they stay JSON text, see `json_text.payloads`."""

    model_config = ConfigDict(extra="ignore", strict=True)
