"""Items of the store: folded in one batch, record by record and as a rebuild does, with the same rows."""

from __future__ import annotations

import base64
import struct
from typing import Any

import asyncpg
import pytest

from tests.projections.conftest import Tell
from tests.projections.run_script import RunScript, at
from threadlog.projections.fold.project import PROJECT_PUTS, PROJECT_ROWS, PROJECT_STORE, fold, statements
from threadlog.projections.fold.store import numbers_of

NS = ["users", "ann"]
KEY = "store:users.ann"
MINUTE = 1 / 60  # a second, as minutes


def put(key: str = "k", value: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "type": "store.item_put",
        "namespace": NS,
        "key": key,
        "value": {"n": 1} if value is None else value,
        **fields,
    }


def together(*puts: dict[str, Any]) -> dict[str, Any]:
    """What one command puts side by side."""
    items = [{name: event[name] for name in event.keys() - {"type", "namespace"}} for event in puts]
    return {"type": "store.items_put", "namespace": NS, "items": items}


def gone(key: str = "k") -> dict[str, Any]:
    return {"type": "store.item_deleted", "namespace": NS, "key": key}


def touched(*keys: str) -> dict[str, Any]:
    return {"type": "store.items_touched", "namespace": NS, "keys": list(keys or ["k"])}


def expired(before: float) -> dict[str, Any]:
    return {"type": "store.items_expired", "namespace": NS, "before": at(before)}


def vector(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def script(*records: Any) -> RunScript:
    story = RunScript()
    for events in records:
        story.then(*(events if isinstance(events, list) else [events]), key=KEY)
    return story


def times(row: dict[str, Any]) -> tuple[str, str, str | None]:
    names = ("created_at", "updated_at", "expires_at")
    created, updated, expires = (row[name] and row[name].isoformat(timespec="microseconds") for name in names)
    return created, updated, expires


async def test_a_put_replaces_the_value_and_keeps_created_at(tell: Tell) -> None:
    (row,) = (await tell(script(put(value={"n": 1}), put(value={"a": "x\x00y"}))))["store_items"]
    assert (row["namespace"], row["key"], row["p"], row["value"]) == ("users.ann", "k", 3, '{"a": "x\ufffdy"}')
    assert times(row) == (at(0), at(1), None)


async def test_an_item_that_was_deleted_is_put_anew(tell: Tell) -> None:
    story = script(put(), [put("other"), gone()], put(value={"n": 2}), gone("missing"))
    rows = {row["key"]: row for row in (await tell(story))["store_items"]}
    assert times(rows["k"]) == (at(2), at(2), None) and rows.keys() == {"k", "other"}


@pytest.mark.parametrize(
    ("records", "left"),
    [
        ((put(ttl=2 * MINUTE),), (at(0), at(0), at(2))),
        ((put(ttl=2 * MINUTE), touched()), (at(0), at(0), at(3))),
        ((put(ttl=2 * MINUTE), touched(), touched()), (at(0), at(0), at(4))),
        ((put(), touched()), (at(0), at(0), None)),
        ((put(ttl=2 * MINUTE), put()), (at(0), at(1), None)),
        ((put(ttl=2 * MINUTE), put(ttl=5 * MINUTE)), (at(0), at(1), at(6))),
        # what had expired was gone, whether or not it was swept: this is another item
        ((put(ttl=MINUTE), put(ttl=5 * MINUTE)), (at(1), at(1), at(6))),
        ((put(ttl=MINUTE), put("other"), put()), (at(2), at(2), None)),
        ((put(ttl=2 * MINUTE), touched(), put("other"), put()), (at(3), at(3), None)),
        ((put(ttl=2 * MINUTE), touched(), put()), (at(0), at(2), None)),
        ((put(ttl=2 * MINUTE), [gone(), touched()], put()), (at(2), at(2), None)),
        ((put(ttl=2 * MINUTE), expired(2)), None),
        ((put(ttl=2 * MINUTE), touched(), expired(2)), (at(0), at(0), at(3))),
        ((put(ttl=2 * MINUTE), touched(), expired(3)), None),
        ((put(ttl=2 * MINUTE), put(ttl=9 * MINUTE), expired(3)), (at(0), at(1), at(10))),
        ((put(ttl=2 * MINUTE), expired(5), put()), (at(2), at(2), None)),
        ((put(ttl=MINUTE / 7), touched(), touched()), (at(0), at(0), at(2 + 1 / 7))),
        ((put(ttl=2 * MINUTE), together(put("other"), put(ttl=5 * MINUTE))), (at(0), at(1), at(6))),
        ((put(ttl=MINUTE), together(put("other"), put())), (at(1), at(1), None)),
        ((together(put(ttl=2 * MINUTE), put("other")), touched(), put()), (at(0), at(2), None)),
        ((together(put("other"), put(ttl=2 * MINUTE)), expired(2)), None),
    ],
)  # fmt: skip
async def test_time_to_live(tell: Tell, records: tuple[Any, ...], left: Any) -> None:
    rows = {row["key"]: row for row in (await tell(script(*records)))["store_items"]}
    assert (times(rows["k"]) if "k" in rows else None) == left


async def test_items_that_are_put_together_are_as_if_put_one_after_the_other(
    tell: Tell, conn: asyncpg.Connection
) -> None:
    """Before others, between them and over them; each order of their rows is a way of its own in the database."""
    first = [put("k", {"n": 1}), put("c", {"a": "x\x00y"}), put("k", {"n": 2}), put("é", {"deep": [{"n": 1}]}, ttl=9.0)]
    second = [put("a"), put("b", {"n": 3}, ttl=5.0), put("zz")]
    once = await tell(script([together(*first), gone("c")], together(*second), together(put("b"), put("new"))))
    await conn.execute("TRUNCATE store_items, store_vectors")
    apart = await tell(script([*first, gone("c")], second, [put("b"), put("new")]))
    assert once["store_items"] == apart["store_items"]
    rows = {row["key"]: row for row in once["store_items"]}
    assert rows.keys() == {"k", "é", "a", "b", "zz", "new"} and rows["k"]["value"] == '{"n": 2}'
    assert times(rows["b"]) == (at(1), at(2), None) and times(rows["é"])[2] is not None


@pytest.mark.parametrize(
    ("events", "alone"),
    [
        ([put()], True),
        ([together(put("a", ttl=2.0), put("b"))], True),
        ([put("a"), put("a")], True),
        ([put(), gone("other")], False),
        ([put(), touched()], True),
        ([put(), touched("other")], False),
        ([put(vectors=[["text", vector(1.0)]])], False),
        ([together(put("a"), put("b", {"text": "x" * 2**20}))], False),
    ],
)
def test_what_one_command_puts_is_one_call(events: list[dict[str, Any]], alone: bool) -> None:
    (rows,) = fold([(3, script(events).accepted)])
    called = [sql for sql, _ in statements(rows, "3:1")]
    assert called == ([PROJECT_PUTS] if alone else [PROJECT_ROWS, PROJECT_STORE])


async def test_a_sweep_removes_what_has_expired_in_its_namespace_only(tell: Tell) -> None:
    story = script(put(ttl=MINUTE), put("kept"), put("later", ttl=60 * MINUTE))
    elsewhere = {**put(ttl=MINUTE), "namespace": ["users", "bob"]}
    story.then(elsewhere, key="store:users.bob")
    story.then(expired(20), key=KEY)
    found = {(row["namespace"], row["key"]) for row in (await tell(story))["store_items"]}
    assert found == {("users.ann", "kept"), ("users.ann", "later"), ("users.bob", "k")}


async def test_vectors_are_those_of_the_last_put(tell: Tell) -> None:
    first, second = vector(0.5, 0.25), vector(1.0, -2.0)
    story = script(put(vectors=[["text", first], ["tags.0", second]]), put(vectors=[["text", second]]), put("none"))
    vectors = (await tell(story))["store_vectors"]
    assert [(row["key"], row["path"], row["embedding"]) for row in vectors] == [("k", "text", [1.0, -2.0])]
    for last in (gone(), put(), expired(60), together(put("a"), put())):
        story = script(put(ttl=MINUTE, vectors=[["text", first]]), last)
        assert (await tell(story))["store_vectors"] == []
    story = script(
        together(put(vectors=[["text", first]]), put("o", vectors=[["t", second]])), together(put(), put("n"))
    )
    assert [row["key"] for row in (await tell(story))["store_vectors"]] == ["o"]


def test_what_is_no_vector_is_refused() -> None:
    assert numbers_of(vector(0.5, 2.0)) == [0.5, 2.0]
    for data in ("", "AAAA", "?", "AAAAA==="):
        with pytest.raises(ValueError):
            numbers_of(data)
