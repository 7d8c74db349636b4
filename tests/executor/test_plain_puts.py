"""Which batches of puts are made a command without a look at each; that the command is the same, `test_graph_store`."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.store.base import GetOp, PutOp

from threadlog.engine.domain.limits import DEPTH
from threadlog.engine.domain.store_limits import ITEM_KEY_BYTES, ITEM_VALUE_KEYS
from threadlog.engine.executor.store.plain_puts import plain_puts
from threadlog.engine.store.writing import COMMAND_BYTES

PLAIN = [PutOp(("a", "b"), f"k{n}", {"n": n, "of": {"x": [1, None]}}) for n in range(3)]
DEEP: Any = {}
for _ in range(DEPTH):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "special",
    [
        GetOp(("a", "b"), "other"),
        PutOp(("a", "c"), "other", {}),
        PutOp(("a", "b"), "k0", {}),
        PutOp(("a", "b"), "other", None),
        PutOp(("a", "b"), "other", {}, ttl=1.0),
        PutOp(("a", "b"), "x" * (ITEM_KEY_BYTES // 4 + 1), {}),
        PutOp(("a", "b"), "a\x00b", {}),
        PutOp(("a", "b"), "\ud800", {}),
        PutOp(("a", "b"), "other", {"x": "a\x00b"}),
        PutOp(("a", "b"), "other", {"x": "\ud800"}),
        PutOp(("a", "b"), "other", {1: 2}),
        PutOp(("a", "b"), "other", {"x": object()}),
        PutOp(("a", "b"), "other", {"x": "x" * COMMAND_BYTES}),
        PutOp(("a", "b"), "other", DEEP),
        PutOp(("a", "b"), "other", {str(n): n for n in range(ITEM_VALUE_KEYS + 1)}),
        PutOp(("a", "b"), 1, {}),  # type: ignore[arg-type]
        PutOp(("a", "b"), "other", [1]),  # type: ignore[arg-type]
    ],
)
def test_a_batch_with_anything_special_in_it_is_looked_at_op_by_op(special: Any) -> None:
    assert plain_puts(PLAIN) is not None
    assert plain_puts([*PLAIN, special]) is None


@pytest.mark.parametrize("namespace", [(), ("a.b",), ("",), ("\ud800",), ("a\x00",), ("a",) * 65, ("a" * 1025,), (1,)])
def test_so_is_one_whose_namespace_is_special_or_none(namespace: Any) -> None:
    assert plain_puts([op._replace(namespace=namespace) for op in PLAIN]) is None
