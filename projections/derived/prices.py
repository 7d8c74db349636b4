"""Price table: what tokens of a model cost, from a JSON file of the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_KINDS = ("input", "output", "cache_read")


class BadPrices(ValueError):
    """The file is not a price table; the message says where."""


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens, in the user's currency. `cache_read`: of the input, what a cache had."""

    input: Decimal
    output: Decimal
    cache_read: Decimal

    def of(self, tokens: Mapping[str, int]) -> Decimal:
        cached = min(tokens.get("cache_read_tokens", 0), tokens.get("input_tokens", 0))
        fresh = tokens.get("input_tokens", 0) - cached
        spent = fresh * self.input + cached * self.cache_read + tokens.get("output_tokens", 0) * self.output
        return spent / 1_000_000


class PriceTable:
    """`{"model": {"input": 2.5, "output": 10, "cache_read": 1.25}}`, per million tokens; the name of a model may have
    `*` and `?`, the first that fits counts. `cache_read` is the price of the input where it is not given."""

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = dict(prices or {})

    def __iter__(self) -> Iterator[tuple[str, Price]]:
        """The models, or patterns, in the order of the file."""
        return iter(self._prices.items())

    @classmethod
    def load(cls, path: Path) -> PriceTable:
        """Raises `BadPrices`."""
        try:
            said: Any = json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal)
        except (OSError, ValueError) as error:
            raise BadPrices(f"{path} can't be read: {error}") from None
        if not isinstance(said, dict):
            raise BadPrices(f"{path} is not an object of models")
        return cls({model: _price(path, model, price) for model, price in said.items()})

    def cost(self, model: str, tokens: Mapping[str, int]) -> Decimal | None:
        """None: the table does not have the model."""
        price = self._prices.get(model)
        if price is None:
            price = next((price for name, price in self._prices.items() if fnmatchcase(model, name)), None)
        return None if price is None else price.of(tokens)


def _price(path: Path, model: str, said: Any) -> Price:
    try:
        if said.keys() - set(_KINDS):
            raise ValueError
        amounts = {kind: Decimal(amount) for kind, amount in said.items()}
        if any(amount < 0 or not amount.is_finite() for amount in amounts.values()):
            raise ValueError
        return Price(amounts["input"], amounts["output"], amounts.get("cache_read", amounts["input"]))
    except (AttributeError, KeyError, ValueError, TypeError, InvalidOperation):
        raise BadPrices(
            f"{path}: the price of {model} is not of the form "
            '{"input": 2.5, "output": 10, "cache_read": 1.25}, per million tokens'
        ) from None
