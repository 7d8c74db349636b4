"""A model that costs nothing and needs no network, for all agents here: it knows names, and has a tool for refunds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Refund:
    """The model wants its tool `refund` called."""

    order: str


def answer(said: Sequence[str], tool_result: str | None = None) -> str | Refund:
    """The model's next turn: `said` is all that the user has said so far, `tool_result` what the tool has returned to
    the last of it."""
    if tool_result is not None:
        return f"I asked for it: {tool_result}"
    last = said[-1]
    if order := re.search(r"refund order (\w+)", last, re.IGNORECASE):
        return Refund(order[1])
    if "who am i" in last.lower():
        names = [name[1] for one in said if (name := re.search(r"\bI am (\w+)", one))]
        return f"You are {names[-1]}." if names else "You have not told me."
    if name := re.search(r"\bI am (\w+)", last):
        return f"Nice to meet you, {name[1]}."
    return "I can refund orders."


def pieces(text: str) -> Iterator[str]:
    """Text as a model streams it."""
    yield from re.findall(r"\S+\s*", text)
