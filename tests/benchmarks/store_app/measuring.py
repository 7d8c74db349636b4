"""A node that times its store beside langgraph's `AsyncPostgresStore` on the same Postgres, call by call in turns."""

from __future__ import annotations

import statistics
import time
from typing import Any

from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.postgres.aio import AsyncPostgresStore
from typing_extensions import TypedDict

VALUE = {"text": "She likes her tea without sugar, and in the morning.", "confidence": 0.8, "kind": "preference"}


class State(TypedDict):
    uri: str
    calls: int
    figures: dict[str, dict[str, float]]


async def _timed(taken: list[float], call: Any) -> None:
    begun = time.perf_counter()
    await call
    taken.append((time.perf_counter() - begun) * 1e3)


async def _round(store: BaseStore, n: int, taken: dict[str, list[float]]) -> None:
    namespace = ("users", str(n % 10), "memories")
    await _timed(taken["aput"], store.aput(namespace, f"k{n}", {**VALUE, "n": n}))
    await _timed(taken["aget"], store.aget(namespace, f"k{n}"))
    await _timed(taken["asearch"], store.asearch(namespace, filter={"kind": "preference"}))
    if n % 10 == 0:
        batch = [PutOp(("batches", str(n)), f"k{i}", {**VALUE, "n": i}) for i in range(100)]
        await _timed(taken["100 puts"], store.abatch(batch))


async def measure(state: State, runtime: Runtime) -> dict[str, Any]:
    assert runtime.store is not None
    figures: dict[str, dict[str, list[float]]] = {}
    pool = {"min_size": 1, "max_size": 4}
    async with AsyncPostgresStore.from_conn_string(state["uri"], pool_config=pool) as theirs:  # type: ignore[arg-type]
        await theirs.setup()
        stores: dict[str, BaseStore] = {"threadlog": runtime.store, "AsyncPostgresStore": theirs}
        for n in range(-20, state["calls"]):
            for name, store in stores.items():
                taken = figures.setdefault(name, {})
                for kind in ("aput", "aget", "asearch", "100 puts"):
                    taken.setdefault(kind, [])
                await _round(store, n, taken if n >= 0 else {kind: [] for kind in taken})
    medians = {name: {k: statistics.median(v) for k, v in taken.items()} for name, taken in figures.items()}
    return {"figures": medians}


graph = StateGraph(State).add_node("measure", measure).add_edge("__start__", "measure").compile()
