"""Embeddings for the store: how often each letter is in a text."""

from __future__ import annotations


async def embed(texts: list[str]) -> list[list[float]]:
    return [[float(text.lower().count(chr(ord("a") + n))) for n in range(26)] for text in texts]
