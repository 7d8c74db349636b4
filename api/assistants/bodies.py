"""Request bodies of /assistants, and the config that assistants and runs have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from threadlog.api.http.bodies import (
    Body,
    Filter,
    Indexed,
    JsonObject,
    Limit,
    Metadata,
    Names,
    Offset,
    SortOrder,
    Text,
    Uuid,
)
from threadlog.api.http.limits import small
from threadlog.engine.domain.limits import METADATA_KEYS


class Config(Body):
    """A runnable config as clients send it; other keys of it are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    tags: Names | None = None
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    configurable: JsonObject | None = None
    metadata: JsonObject | None = None

    def as_dict(self) -> JsonObject:
        return {k: v for k, v in self.model_dump(exclude_unset=True).items() if v is not None}


SmallConfig = Annotated[Config, BeforeValidator(small(METADATA_KEYS))]


class AssistantCreate(Body):
    graph_id: Indexed
    assistant_id: Uuid | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    name: Indexed | None = None
    description: Text | None = None


class AssistantPatch(Body):
    graph_id: Indexed | None = None
    config: SmallConfig | None = None
    context: Metadata | None = None
    metadata: Metadata | None = None
    name: Indexed | None = None
    description: Text | None = None


class AssistantFilter(Body):
    metadata: Filter | None = None
    graph_id: Indexed | None = None
    name: Indexed | None = None


class AssistantSearch(AssistantFilter):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] | None = None
    sort_order: SortOrder | None = None
    select: Names | None = None


class AssistantVersions(Body):
    metadata: Filter | None = None
    limit: Limit = 10
    offset: Offset = 0


class AssistantLatest(Body):
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
