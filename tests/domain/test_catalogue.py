"""docs/reference/events.md: that it is what the classes say, and that every field's meaning is told."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tests.domain.write_catalogue import CATALOGUE, MEANINGS, catalogue
from threadlog.engine.domain.commands import COMMANDS
from threadlog.engine.domain.events import EVENTS


def test_the_catalogue_is_current() -> None:
    """Else: python -m tests.domain.write_catalogue."""
    assert CATALOGUE.read_text() == catalogue()


def test_no_meaning_is_left_of_a_field_that_is_gone() -> None:
    messages: list[Any] = [*COMMANDS.values(), *EVENTS.values()]
    names = {name for kind in messages for f in fields(kind) for name in (f.name, f"{kind.type}.{f.name}")}
    assert set(MEANINGS) <= names
