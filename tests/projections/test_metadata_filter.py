"""Filters on metadata: what Postgres and this process make of them is the same."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from threadlog.projections.queries.metadata_filter import InvalidMetadataFilter, MetadataFilter

METADATA: list[dict[str, Any]] = [
    {},
    {"owner": "ann"},
    {"owner": "bob", "team": "x"},
    {"owner": ["ann"]},
    {"owner": {"name": "ann", "age": 1}},
    {"owner": {"name": "ann"}},
    {"owner": None},
    {"owner": True},
    {"owner": 1},
    {"owner": 1.0},
    {"owner": ""},
    {"members": ["ann", "bob"]},
    {"members": ["bob", "ann", "bob"]},
    {"members": [["ann"]]},
    {"members": []},
    {"members": "ann"},
    {"members": {"ann": 1}},
    {"members": [{"id": "ann", "role": "a"}]},
    {"a'b\"c": "ann", "$weird": 1},
    {"owner": "a\ufffd"},
]
FILTERS: list[dict[str, Any]] = [
    {"owner": "ann"},
    {"owner": {"$eq": "ann"}},
    {"owner": None},
    {"owner": True},
    {"owner": 1},
    {"owner": ["ann"]},
    {"owner": []},
    {"owner": {"name": "ann"}},
    {"owner": {}},
    {"owner": "bob", "team": "x"},
    {"owner": {"$eq": {"name": "ann"}}},
    {"owner": "a\x00"},
    {"a'b\"c": "ann"},
    {"members": {"$contains": "ann"}},
    {"members": {"$contains": ["ann", "bob"]}},
    {"members": {"$contains": []}},
    {"members": {"$contains": ["ann", "eve"]}},
    {"members": {"$contains": {"id": "ann"}}},
    {"members": {"$contains": "ann", "$eq": ["ann", "bob"]}},
    {"$or": [{"owner": "ann"}, {"members": {"$contains": "ann"}}]},
    {"$and": [{"owner": "bob"}, {"team": "x"}]},
    {"$and": []},
    {"$or": []},
    {"team": "x", "$or": [{"owner": "ann"}, {"$and": [{"owner": "bob"}, {"team": {"$eq": "x"}}]}]},
]


async def test_postgres_and_this_process_agree(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for given in FILTERS:
            only = MetadataFilter.parse(given)
            assert only is not None
            args: list[Any] = [[orjson.dumps(metadata).decode() for metadata in METADATA]]
            condition = only.sql("m", args)
            sql = (
                "SELECT n, coalesce(" + condition + ", false) AS passes "
                "FROM (SELECT n, t::jsonb AS m FROM unnest($1::text[]) WITH ORDINALITY AS u(t, n)) AS rows ORDER BY n"
            )
            passes = [row["passes"] for row in await connection.fetch(sql, *args)]
            assert passes == [only.matches(metadata) for metadata in METADATA], given
    finally:
        await connection.close()


def test_an_empty_filter_is_none() -> None:
    assert MetadataFilter.parse({}) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"owner": {"$gt": 1}}, "'$gt' is not an operator"),
        ({"owner": {"$eq": 1, "other": 2}}, "'other' is not an operator"),
        ({"$not": {"owner": "ann"}}, "'$not' is not an operator"),
        ({"$or": {"owner": "ann"}}, "$or takes a list"),
        ({"$or": ["ann"]}, "a filter is an object"),
    ],
)
def test_what_is_no_filter_is_refused(given: Any, says: str) -> None:
    with pytest.raises(InvalidMetadataFilter, match=says.replace("$", r"\$")):
        MetadataFilter.parse(given)


def test_a_filter_has_a_depth_that_postgres_takes() -> None:
    given: Any = {"owner": "ann"}
    for _ in range(20):
        given = {"$or": [given]}
    with pytest.raises(InvalidMetadataFilter, match="deeper"):
        MetadataFilter.parse(given)
