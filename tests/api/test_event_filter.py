"""Which events of a thread a subscription of the event-streaming protocol lets through."""

from __future__ import annotations

from typing import Any

import pytest

from threadlog.api.events.filters import InvalidFilter, filter_of

CHILD, BELOW = ("child:1",), ("child:1", "deep:2")


@pytest.mark.parametrize(
    ("params", "root", "child", "below"),
    [
        ({}, True, True, True),
        ({"namespaces": [[]]}, True, True, True),
        ({"namespaces": [[]], "depth": 0}, True, False, False),
        ({"namespaces": [[]], "depth": 1}, True, True, False),
        ({"namespaces": [["child"]]}, False, True, True),
        ({"namespaces": [["child:1"]], "depth": 0}, False, True, False),
        ({"namespaces": [["child:2"]]}, False, False, False),
        ({"namespaces": [["other"], ["child", "deep"]]}, False, False, True),
        ({"namespaces": [["chil"]]}, False, False, False),
    ],
)
def test_namespaces(params: dict[str, Any], root: bool, child: bool, below: bool) -> None:
    wanted = filter_of({"channels": ["values"], **params})
    assert [wanted.wants("values", namespace) for namespace in ((), CHILD, BELOW)] == [root, child, below]
    assert not wanted.wants("messages", ())


def test_custom_events_are_chosen_by_name_or_all() -> None:
    named = filter_of({"channels": ["custom:progress"]})
    assert named.wants("custom", (), "progress")
    assert not named.wants("custom", (), "other")
    assert not named.wants("custom", ())
    assert filter_of({"channels": ["custom"]}).wants("custom", (), "progress")


@pytest.mark.parametrize(
    "params",
    [{"depth": True}, {"depth": "1"}, {"since": 1.5}, {"since": -1}, {"namespaces": [[1]]}, {"namespaces": {}}],
)
def test_what_is_no_filter_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidFilter):
        filter_of({"channels": ["values"], **params})
