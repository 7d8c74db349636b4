"""Chunks of models as content blocks of the event-streaming protocol."""

from __future__ import annotations

from typing import Any

from threadlog.api.events.content_blocks import MessageTranslator

METADATA = {"langgraph_checkpoint_ns": "model:task-1", "ls_provider": "anthropic", "langgraph_node": "model"}


def chunk(content: Any = "", message_id: str = "m", **more: Any) -> dict[str, Any]:
    return {"type": "AIMessageChunk", "id": message_id, "content": content, **more}


def said(translator: MessageTranslator, *messages: dict[str, Any], metadata: Any = METADATA) -> list[dict[str, Any]]:
    return [event.data for message in messages for event in translator.feed((), message, metadata)]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"].removeprefix("content-") for event in events]


def test_text_streams_into_one_block() -> None:
    translator = MessageTranslator()
    events = said(translator, chunk("Hel"), chunk("lo"), chunk("", chunk_position="last"))
    assert names(events) == [
        "message-start", "block-start", "block-delta", "block-delta", "block-finish", "message-finish",
    ]  # fmt: skip
    assert events[0]["metadata"] == {"provider": "anthropic", "langgraph_node": "model"}
    assert events[4] == {"event": "content-block-finish", "index": 0, "content": {"type": "text", "text": "Hello"}}
    assert translator.close() == []


def test_thoughts_text_and_calls_have_a_block_each() -> None:
    call = {"name": "add", "id": "c1", "args": '{"left":', "index": 2}
    events = said(
        MessageTranslator(),
        chunk([{"type": "thinking", "thinking": "hmm", "index": 0}]),
        chunk([{"type": "text", "text": "Let me see", "index": 1}]),
        chunk([{"type": "tool_use", "name": "add", "id": "c1", "index": 2}], tool_call_chunks=[call]),
        chunk(tool_call_chunks=[{"name": None, "id": None, "args": " 2}", "index": 2}], chunk_position="last"),
    )
    finished = [event["content"] for event in events if event["event"] == "content-block-finish"]
    assert finished == [
        {"type": "reasoning", "reasoning": "hmm"},
        {"type": "text", "text": "Let me see"},
        {"type": "tool_call", "id": "c1", "name": "add", "args": {"left": 2}},
    ]
    assert [event["index"] for event in events if "index" in event] == [0, 0, 1, 1, 2, 2, 2, 0, 1, 2]


def test_calls_that_are_no_json_are_invalid_calls() -> None:
    for args in ("{broken", "[1]"):
        call = {"name": "add", "id": "c1", "args": args, "index": 0}
        *_, finish, _ = said(MessageTranslator(), chunk(tool_call_chunks=[call], chunk_position="last"))
        assert finish["content"]["type"] == "invalid_tool_call"
        assert finish["content"]["args"] == args
        assert finish["content"]["error"]


def test_the_name_of_a_call_may_come_late() -> None:
    parts = [{"name": None, "id": None, "args": "", "index": 0}, {"name": "add", "id": "c1", "args": "{}", "index": 0}]
    events = said(
        MessageTranslator(), *(chunk(tool_call_chunks=[part]) for part in parts), chunk(chunk_position="last")
    )
    assert {"type": "block-delta", "fields": {"type": "tool_call_chunk", "id": "c1", "name": "add"}} in [
        event.get("delta") for event in events
    ]
    assert events[-2]["content"] == {"type": "tool_call", "id": "c1", "name": "add", "args": {}}


def test_tokens_are_counted_over_all_chunks() -> None:
    first = {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10, "input_token_details": {"cache_read": 4}}
    last = {"input_tokens": 0, "output_tokens": 7, "total_tokens": 7}
    *_, finish = said(
        MessageTranslator(), chunk("a", usage_metadata=first), chunk("b", usage_metadata=last, chunk_position="last")
    )
    assert finish["usage"] == {
        "input_tokens": 10, "output_tokens": 7, "total_tokens": 17, "input_token_details": {"cache_read": 4},
    }  # fmt: skip


def test_messages_side_by_side_are_told_apart() -> None:
    translator = MessageTranslator()
    events = said(translator, chunk("a", "one"), chunk("b", "two"), chunk("c", "one"))
    assert [event.get("message_id") for event in events] == ["one", None, None, "two", "two", "two", "one"]
    assert all(event.data["message_id"] for event in translator.close())


def test_a_message_that_was_not_streamed_comes_in_one_piece() -> None:
    whole = {
        "type": "ai", "id": "m", "content": [{"type": "text", "text": "Hi"}, {"type": "image", "url": "x"}],
        "tool_calls": [{"name": "add", "id": "c", "args": {"left": 1}}], "usage_metadata": {"input_tokens": 1},
    }  # fmt: skip
    events = said(MessageTranslator(), whole)
    assert [event["content"]["type"] for event in events if event["event"] == "content-block-finish"] == [
        "image", "text", "tool_call",
    ]  # fmt: skip
    assert events[-1] == {"event": "message-finish", "usage": {"input_tokens": 1}}


def test_what_models_have_not_said_is_no_message() -> None:
    for kind in ("human", "tool", "system"):
        assert said(MessageTranslator(), {"type": kind, "id": "m", "content": "x"}) == []


def test_a_message_ends_with_its_task_and_with_its_attempt() -> None:
    translator = MessageTranslator()
    said(translator, chunk("a", "one"))
    assert [event.data["event"] for event in translator.task_ended("task-2")] == []
    assert [event.data["event"] for event in translator.task_ended("task-1")] == [
        "content-block-finish",
        "message-finish",
    ]
    said(translator, chunk("a", "two"))
    assert [event.data for event in translator.close("gone")] == [{"event": "error", "message": "gone"}]
