"""Requests that the server refuses, as the client raises them."""

from __future__ import annotations

import re
from typing import TypeVar

import pytest
from langgraph_sdk.errors import APIStatusError

Refusal = TypeVar("Refusal", bound=APIStatusError)


def refused(kind: type[Refusal], words: str) -> pytest.RaisesExc[Refusal]:
    """`pytest.raises(kind)` whose message has these words (a pattern).

    Not `match`, which reads `str(error)`: older versions of langgraph-sdk leave that empty and only have `message`.
    """
    return pytest.raises(kind, check=lambda error: re.search(words, error.message) is not None)
