"""Chunks that are translated without being parsed give the events that they would give if they were."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from threadlog.api.events.content_blocks import MessageTranslator
from threadlog.api.events.filters import EventFilter, filter_of
from threadlog.api.events.repeats import RepeatedChunk
from threadlog.api.events.subscription import EventTranslator, RunInfo
from threadlog.api.streaming.cursor import RunEnd
from threadlog.api.streaming.subscriptions import NewFrames, RunDone
from threadlog.engine.log.records import Frames

_TEXTS = (
    "a",
    " word",
    "",
    "é",
    "\n",
    'say "x"',
    "\\",
    "\u2028",
    "content",
    "AIMessageChunk",
    "m1",
    '","',
    "]",
    "null",
    "0",
)


def _chunk(rng: random.Random, message_id: str) -> Any:
    text = rng.choice(_TEXTS)
    content = rng.choice(
        (
            text,
            text,
            text,
            [{"type": "text", "text": text, "index": 0}],
            [{"type": "thinking", "thinking": text}],
            [text],
        )
    )
    chunk: dict[str, Any] = {
        "content": content, "additional_kwargs": {}, "type": "AIMessageChunk", "id": message_id,
        "usage_metadata": None, "tool_call_chunks": [], "chunk_position": None,
    }  # fmt: skip
    if rng.random() < 0.3:
        chunk["content"] = ""
        chunk["tool_call_chunks"] = [
            {"name": rng.choice((None, "f")), "args": text, "id": rng.choice((None, "c1")), "index": rng.randrange(2)}
        ]
    if rng.random() < 0.05:
        chunk["usage_metadata"] = {"input_tokens": 1, "output_tokens": 2}
    if rng.random() < 0.03:
        chunk["chunk_position"] = "last"
    if rng.random() < 0.03:
        chunk["additional_kwargs"] = {"reasoning_content": text}
    return [chunk, {"langgraph_node": "model", "langgraph_checkpoint_ns": "model:t", "ls_provider": rng.choice("ab")}]


def _story(seed: int) -> list[NewFrames | RunDone]:
    rng = random.Random(seed)
    items: list[NewFrames | RunDone] = []
    number, attempt, message_id = 0, 1, "m1"
    for offset in range(60):
        frames: list[tuple[bytes, bytes]] = []
        for _ in range(rng.randrange(1, 5)):
            if rng.random() < 0.1:
                message_id = rng.choice(("m1", "m2", "m3"))
            name = rng.choice((b"messages", b"messages", b"messages", b"messages|sub:1"))
            frames.append((name, orjson.dumps(_chunk(rng, message_id))))
        if rng.random() < 0.05:
            frames.append((b"tasks", orjson.dumps({"id": "t", "result": {}})))
        items.append(NewFrames(offset, 0, Frames("r", "t", attempt, number, frames)))
        number += len(frames)
        if rng.random() < 0.03:
            attempt, number = attempt + 1, 0
    return [*items, RunDone("r", RunEnd("success", attempt, number))]


async def _bodies(wanted: EventFilter, items: list[NewFrames | RunDone]) -> list[bytes]:
    async def nothing(_: str) -> None:
        return None

    async def visible() -> bool:
        return True

    translator = EventTranslator({"r": RunInfo("chat", True)}, wanted, nothing, visible)
    return [event.body for event in await translator.events(items)]


@pytest.mark.parametrize("channels", [["messages", "lifecycle"], ["lifecycle"]])
async def test_they_are_what_parsed_ones_are(monkeypatch: pytest.MonkeyPatch, channels: list[str]) -> None:
    wanted = filter_of({"channels": channels})
    translated = [await _bodies(wanted, _story(seed)) for seed in range(40)]
    monkeypatch.setattr(MessageTranslator, "repeated", lambda *_: None)
    assert translated == [await _bodies(wanted, _story(seed)) for seed in range(40)]


async def test_a_model_s_tokens_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [
        [{"content": text, "type": "AIMessageChunk", "id": "m", "usage_metadata": None}, {"langgraph_node": "n"}]
        for text in ("", "a", " word", "b\n", "é", 'say "x"')
    ]
    frames = Frames("r", "t", 1, 0, [(b"messages", orjson.dumps(chunk)) for chunk in chunks])
    parsed: list[Any] = []
    feed = MessageTranslator.feed
    monkeypatch.setattr(MessageTranslator, "feed", lambda self, *chunk: (parsed.append(chunk), feed(self, *chunk))[1])
    bodies = await _bodies(filter_of({"channels": ["messages"]}), [NewFrames(0, 0, frames)])
    # The message's start, the block's, and one to compare the others with.
    assert len(parsed) == 3
    deltas = [orjson.loads(body)["params"]["data"].get("delta") for body in bodies]
    assert [delta["text"] for delta in deltas if delta] == [chunk[0]["content"] for chunk in chunks[1:]]


@pytest.mark.parametrize(
    "data", [b'["a","b",1]', b'["a" ,1]', b"[7,1]", b'["a\\","b",1]', b'["a",2]', b'["",1', b'["a\\u0022",1', b"[,1]"]
)
def test_what_is_not_the_same_but_for_its_text_is_not_taken_for_it(data: bytes) -> None:
    kept: list[str] = []
    repeated = RepeatedChunk.of(b'["x",1]', {"t": "x"}, "x", kept.append)
    assert repeated is not None and repeated.event(data) is None and not kept
    assert repeated.event(b'["a\\"",1]') == b'{"t":"a\\""}' and kept == ['a"']


def test_where_the_text_is_must_be_clear() -> None:
    for data, event in ((b'["x","x"]', {"t": "x"}), (b'["x"]', {"t": "x", "u": "x"}), (b'["y"]', {"t": "x"})):
        assert RepeatedChunk.of(data, event, "x", lambda _: None) is None
