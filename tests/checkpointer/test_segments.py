"""Lists cut into segments: the whole is always the list, and growing costs what was added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from threadlog.engine.executor.checkpointer.segments import Part, Segment, Segments


class Store:
    """Writes parts as a checkpointer does, and counts what it wrote."""

    def __init__(self) -> None:
        self.segments = Segments()
        self.stored: dict[str, tuple[Any, ...]] = {}
        self.written = 0

    def put(self, value: Sequence[Any]) -> list[str]:
        parts = self.segments.split(value)
        assert [p.start for p in parts] == [0, *(p.end for p in parts[:-1])][: len(parts)], "no gaps"
        refs = []
        for part in parts:
            refs.append(part.stored.hash if part.stored else self._write(part, value))
        assert self.read(refs) == list(value)
        return refs

    def _write(self, part: Part, value: Sequence[Any]) -> str:
        elements = tuple(value[part.start : part.end])
        name = repr(elements)
        if name not in self.stored:
            self.stored[name] = elements
            self.written += len(elements)
        self.segments.add(Segment(name, elements))
        return name

    def read(self, refs: list[str]) -> list[Any]:
        return [element for ref in refs for element in self.stored[ref]]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("truncate"), st.integers(0, 50)),
        st.tuples(st.just("drop first"), st.integers(0, 5)),
        st.tuples(st.just("edit"), st.integers(0, 400)),
        st.tuples(st.just("insert"), st.integers(0, 400)),
        st.tuples(st.just("remove"), st.integers(0, 400)),
        st.tuples(st.just("repeat"), st.integers(1, 20)),
        st.tuples(st.just("replace"), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_is_done_to_a_list_it_is_read_back(steps: list[tuple[str, int]]) -> None:
    store, value, fresh = Store(), [], iter(range(10**9))
    versions = []
    for step, n in steps:
        value = list(value)
        at = n % (len(value) + 1)
        match step:
            case "append":
                value += [next(fresh) for _ in range(n)]
            case "truncate":
                del value[at:]
            case "drop first":
                del value[:n]
            case "edit" if value:
                value[n % len(value)] = next(fresh)
            case "insert":
                value.insert(at, next(fresh))
            case "remove" if value:
                del value[n % len(value)]
            case "repeat":
                value += ["same"] * n
            case "replace":
                value = [next(fresh) for _ in range(n)]
        versions.append((store.put(value), value))
    for refs, value in versions:
        assert store.read(refs) == value, "older versions stay"


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_what_has_not_changed_is_not_written_again(steps: list[tuple[str, int]]) -> None:
    store = Store()
    value: list[Any] = []
    for n, (_, size) in enumerate(steps):
        value = [*value, *((n, i) for i in range(size))]
        store.put(value)
    store.put(value)
    before = store.written
    store.put(list(value))
    assert store.written == before


def test_a_list_that_grows_is_written_log_16_times_and_has_few_segments() -> None:
    store, value, most = Store(), [], 0
    for n in range(5000):
        value = [*value, n]
        most = max(most, len(store.put(value)))
    assert store.written <= 5000 * (math.log(5000, 16) + 1)
    assert most <= 15 * 4


def test_growing_by_uneven_steps_keeps_segments_few() -> None:
    store, value = Store(), []
    fresh = iter(range(10**9))
    for n in range(400):
        value = [*value, *(next(fresh) for _ in range(300 if n % 2 else 1))]
        refs = store.put(value)
    assert len(refs) <= 15 * 4
    assert store.written <= len(value) * 5


def test_editing_the_last_element_again_and_again_writes_little() -> None:
    store, value = Store(), list(range(1000))
    store.put(value)
    before = store.written
    for n in range(200):
        value = [*value[:-1], f"edit {n}"]
        store.put(value)
    assert store.written - before <= 1000 + 200


def test_a_sliding_window_writes_little() -> None:
    store, value = Store(), list(range(64))
    store.put(value)
    before = store.written
    for n in range(640):
        value = [*value[1:], 1000 + n]
        store.put(value)
    assert store.written - before <= 640 * 16, "much less than 64 for each step"


def test_a_copy_of_a_known_list_in_another_channel_writes_nothing() -> None:
    store, value = Store(), []
    for n in range(100):
        value = [*value, n]
        store.put(value)
    before = store.written
    store.put(value[:-3])
    assert store.written - before <= 15


def test_equal_elements_do_not_slow_it_down() -> None:
    store, value = Store(), []
    for _ in range(500):
        value = [*value, None, None]
        refs = store.put(value)
    assert len(refs) <= 15 * 4
