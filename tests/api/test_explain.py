"""GET …/runs/{run_id}/explain: the story of a run, as the command line tells it."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from tests.api.api_harness import ApiHarness
from threadlog.api.runs import explain
from threadlog.engine.story.story import Attempt, Chapter, Story


async def run_on(api: ApiHarness, thread_id: str) -> str:
    run_id = str((await api.run(thread_id))["run_id"])
    await api.report(thread_id, run_id, "success")
    return run_id


async def test_a_run_is_explained(api: ApiHarness) -> None:
    thread_id = await api.thread()
    await run_on(api, thread_id)
    run_id = await run_on(api, thread_id)
    story = await api.call("GET", f"/threads/{thread_id}/runs/{run_id}/explain")
    assert (story["run_id"], story["status"], story["complete"], story["left_out"]) == (run_id, "success", True, 0)
    assert [attempt["end"] for attempt in story["attempts"]] == ["run.succeeded"]
    assert await api.call("GET", f"/runs/{run_id}/explain") == story
    events = await api.call("GET", f"/threads/{thread_id}/events?run_id={run_id}")
    places = {(item["offset"], item["index"]): item["type"] for item in events}
    assert story["chapters"] and all(
        places[chapter["offset"], chapter["index"]] == chapter["type"] for chapter in story["chapters"]
    )


async def test_the_same_as_text(api: ApiHarness) -> None:
    thread_id = await api.thread()
    run_id = await run_on(api, thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/explain"
    async with api.client.get(path, headers={"Accept": "text/plain"}) as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    assert text.startswith(f"run      {run_id}  success\n") and "a request asks for graph" in text
    async with api.client.get(f"{path}?limit=1", headers={"Accept": "text/plain"}) as answer:
        assert (await answer.text()).splitlines()[-1].startswith("… and ")


async def test_chapters_come_in_pages_and_the_rest_is_of_the_whole_run(api: ApiHarness) -> None:
    thread_id = await api.thread()
    path = f"/threads/{thread_id}/runs/{await run_on(api, thread_id)}/explain"
    whole = await api.call("GET", path)
    chapters, after = [], ""
    while True:
        async with api.client.get(path, params={"limit": "1", "after": after}) as answer:
            page = await answer.json()
            after = answer.headers.get("X-Pagination-Next", "")
        chapters += page["chapters"]
        assert page["left_out"] == len(whole["chapters"]) - len(chapters)
        assert {**page, "chapters": [], "left_out": 0} == {**whole, "chapters": []}
        if not after:
            break
    assert chapters == whole["chapters"]


async def test_a_deleted_run_is_explained_while_its_thread_is_there(api: ApiHarness) -> None:
    thread_id, other = await api.thread(), await api.thread()
    run_id = await run_on(api, thread_id)
    await api.call("DELETE", f"/threads/{thread_id}/runs/{run_id}")
    story = await api.call("GET", f"/threads/{thread_id}/runs/{run_id}/explain")
    assert story["status"] == "success" and story["chapters"][-1]["text"] == "it was deleted"
    assert (await api.ask("GET", f"/threads/{other}/runs/{run_id}/explain"))[0] == 404
    assert (await api.ask("GET", f"/runs/{run_id}/explain"))[0] == 404
    await api.call("DELETE", f"/threads/{thread_id}")
    assert (await api.ask("GET", f"/threads/{thread_id}/runs/{run_id}/explain"))[0] == 404


async def test_so_much_of_the_log_is_looked_through(api: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = await api.thread()
    run_id = str((await api.run(thread_id))["run_id"])
    monkeypatch.setattr(explain, "SCAN_BYTES", 1)
    path = f"/threads/{thread_id}/runs/{run_id}/explain"
    assert (await api.call("GET", path))["complete"] is False
    async with api.client.get(path, headers={"Accept": "text/plain"}) as answer:
        assert "The log goes on" in (await answer.text()).splitlines()[-1]
    await api.report(thread_id, run_id, "success")
    assert (await api.call("GET", path))["complete"] is True


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "after=x", "after=1-x"])
async def test_what_makes_no_sense_is_refused(api: ApiHarness, query: str) -> None:
    thread_id = await api.thread()
    run_id = await run_on(api, thread_id)
    assert (await api.ask("GET", f"/threads/{thread_id}/runs/{run_id}/explain?{query}"))[0] in (400, 422)


def test_the_response_has_the_fields_of_the_story() -> None:
    for model, kind in (
        (explain.StoryResponse, Story),
        (explain.ChapterResponse, Chapter),
        (explain.AttemptResponse, Attempt),
    ):
        names = {each.name for each in fields(kind) if not each.name.startswith("_")}  # type: ignore[arg-type]
        assert set(get_type_hints(model)) == names
