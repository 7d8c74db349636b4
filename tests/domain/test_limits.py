"""What a command may hold at most: refused by the field's name, and nothing that a user has is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.domain.samples import IDS
from threadlog.engine.domain import limits
from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    CreateRun,
    CreateThread,
    RegisterGraph,
    ReportRun,
    UpdateAssistant,
    UpdateThread,
)

A, T, R = IDS[0], IDS[0], IDS[1]


@pytest.mark.parametrize("text", ["x" * limits.INDEXED_BYTES, "é" * (limits.INDEXED_BYTES // 2), "\ud800" * 600, ""])
def test_text_that_fits_an_index_passes(text: str) -> None:
    limits.check_indexed("name", text)


@pytest.mark.parametrize("text", ["x" * (limits.INDEXED_BYTES + 1), "é" * (limits.INDEXED_BYTES // 2 + 1)])
@pytest.mark.parametrize("field", ["name", "graph_id"])
def test_text_that_does_not_fit_an_index_is_refused_by_its_name(text: str, field: str) -> None:
    command: Command = CreateAssistant(assistant_id=A, **{"graph_id": "g", field: text})
    with pytest.raises(ValueError, match=f"`{field}` is longer than {limits.INDEXED_BYTES} bytes"):
        limits.check_limits(command)
    with pytest.raises(ValueError, match=field):
        limits.check_limits(UpdateAssistant(assistant_id=A, **{field: text}))


def test_the_id_of_a_graph_is_limited_wherever_it_comes_from() -> None:
    long = "g" * 3000
    for command in (
        CreateRun(thread_id=T, run_id=R, graph_id=long, run={}),
        RegisterGraph(graph_id=long, digest="", info={}),
    ):
        with pytest.raises(ValueError, match="graph_id"):
            limits.check_limits(command)


MANY: list[Any] = [
    {str(n): n for n in range(limits.METADATA_KEYS + 1)},
    {"a": [0] * limits.METADATA_KEYS},
    {"a": {"b": [{"c": [{}] * limits.METADATA_KEYS}]}},
]


@pytest.mark.parametrize("metadata", MANY)
def test_metadata_of_too_many_keys_is_refused(metadata: dict[str, Any]) -> None:
    for command in (
        CreateThread(thread_id=T, metadata=metadata),
        UpdateThread(thread_id=T, metadata=metadata),
        CreateAssistant(assistant_id=A, graph_id="g", metadata=metadata),
        UpdateAssistant(assistant_id=A, metadata=metadata),
        CreateRun(thread_id=T, run_id=R, graph_id="g", run={"metadata": metadata}),
        CreateRun(thread_id=T, run_id=R, graph_id="g", run={}, thread_metadata=metadata),
        CreateRun(thread_id=T, run_id=R, graph_id="g", run={}, create_thread=metadata),
        ReportRun(thread_id=T, run_id=R, attempt=1, items=[{"kind": "checkpoint", "metadata": metadata}]),
    ):
        with pytest.raises(ValueError, match=f"`metadata` has more than {limits.METADATA_KEYS} keys"):
            limits.check_large(command)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * (limits.METADATA_BYTES + 1)},
        {"x" * (limits.METADATA_BYTES + 1): 1},
        {"a": ["é" * (limits.METADATA_BYTES // 4)] * 3},
    ],
    ids=["string", "key", "list"],
)
def test_metadata_that_is_too_large_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`metadata` is larger than {limits.METADATA_BYTES} bytes"):
        limits.check_large(CreateThread(thread_id=T, metadata=metadata))


def test_metadata_within_the_limits_passes_whatever_its_depth() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    limits.check_large(CreateThread(thread_id=T, metadata={"deep": deep, "many": list(range(4000)), "none": None}))
    limits.check_large(CreateRun(thread_id=T, run_id=R, graph_id="g", run={"kwargs": {"input": MANY}}))


def test_what_is_not_large_cannot_have_too_many_keys() -> None:
    """A key or element takes two bytes at least: its value and a comma."""
    assert limits.METADATA_KEYS * 2 + 1 < limits.LARGE_BYTES < limits.METADATA_BYTES
