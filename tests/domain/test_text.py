"""What becomes of characters that JSON or Postgres can't hold."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadlog.engine.domain.text import data_to_text, serialized, storable, text_to_data, without_nul

ANY = st.text(st.characters(codec=None, categories=None))


@pytest.mark.parametrize(
    ("text", "stored", "shown"),
    [
        ("plain", "plain", "plain"),
        ("é € 😀", "é € 😀", "é € 😀"),
        ("a\0b", "a\ufffdb", "a\0b"),
        ("half \ud83d é", "half \ufffd é", "half ? é"),
        ("\udc80\0", "\ufffd\ufffd", "?\0"),
    ],
)
def test_the_policy(text: str, stored: str, shown: str) -> None:
    assert storable(text) == stored
    assert serialized(text) == shown


@given(ANY)
def test_what_is_storable_can_be_stored_and_stays_as_it_is(text: str) -> None:
    stored = storable(text)
    assert "\0" not in stored and len(stored) == len(text)
    assert storable(stored.encode().decode()) == stored


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_without_nul_is_the_json_of_storable_text(value: object) -> None:
    def cleaned(value: object) -> object:
        if isinstance(value, str):
            return storable(value)
        if isinstance(value, list):
            return [cleaned(item) for item in value]
        assert isinstance(value, dict)
        return {cleaned(key): cleaned(item) for key, item in value.items()}

    assert orjson.loads(without_nul(orjson.dumps(value))) == cleaned(value)


@pytest.mark.parametrize("text", ["\\u0000", "\\\0", "\\\\u0000", "\0\0\\", '"\0"'])
def test_only_an_escape_that_is_not_escaped_is_a_nul(text: str) -> None:
    assert orjson.loads(without_nul(orjson.dumps([text]))) == [storable(text)]


@given(st.binary(max_size=300))
def test_checkpoint_data_is_lossless(data: bytes) -> None:
    text = data_to_text(data)
    assert text_to_data(text) == data
    assert storable(text) == text, "no gate on its way changes it"
