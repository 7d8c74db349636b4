"""Integers that JSON readers would round are found, and nothing else is taken for one."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadlog.engine.stored.long_integers import loads, may_have_some

EDGES = st.sampled_from([2**64, 2**63, -(2**63), -(2**64), 10**18, 10**19, 10**20, -(10**18), -(10**19), 10**40])


@given(st.integers(-(2**66), 2**66) | st.tuples(EDGES, st.integers(-3, 3)).map(sum))
def test_an_integer_is_out_of_reach_exactly_beyond_64_bits(number: int) -> None:
    beyond = not -(2**63) <= number < 2**64
    for text in (f"{number}", f"[1, {number}]", f'{{"a":{number},"b":-1}}', f"[{number}\n]"):
        assert may_have_some(text.encode()) is beyond
        assert loads(text.encode(), str) == orjson.loads(
            text.replace(str(number), f'"{number}"' if beyond else str(number))
        )


@pytest.mark.parametrize(
    "text",
    ["[0.12345678901234567890123]", "[12345678901234567890123.5]", "[1e-12345678901234567890]", "[1E+123456789]"],
)
def test_other_numbers_are_none(text: str) -> None:
    assert not may_have_some(text.encode())


def test_digits_in_text_stay_text() -> None:
    text = f'{{"a": "id {10**30}", "b": 1.5, "c": {10**30}}}'.encode()
    assert loads(text, lambda digits: ("out", digits)) == {"a": f"id {10**30}", "b": 1.5, "c": ("out", str(10**30))}
