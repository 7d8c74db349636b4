"""POST /runs/search and /runs/count: the runs of all threads, by filter, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.api_harness import ApiHarness


async def page(api: ApiHarness, **wanted: Any) -> tuple[list[Any], str | None]:
    async with api.client.post("/runs/search", json=wanted) as answer:
        items = await answer.json()
        assert answer.status == 200, items
        return items, answer.headers.get("X-Pagination-Next")


async def ids(api: ApiHarness, **wanted: Any) -> list[str]:
    items, _ = await page(api, **{"limit": 1000, **wanted})
    assert await api.call("POST", "/runs/count", {k: v for k, v in wanted.items() if k != "sort_order"}) == len(items)
    return [item["run_id"] for item in items]


async def run_of(api: ApiHarness, end: str | None = None, **fields: Any) -> dict[str, Any]:
    thread_id = await api.thread()
    run = await api.run(thread_id, **fields)
    if end is not None:
        error = {"error": {"error": "ValueError", "message": "no such place"}} if end == "error" else {}
        await api.report(thread_id, run["run_id"], end, **error)
    return run


async def test_runs_of_all_threads_are_found_by_what_they_are(api: ApiHarness) -> None:
    other = await api.register("other")
    done = await run_of(api, "success", metadata={"ticket": 7})
    failed = await run_of(api, "error", metadata={"ticket": 8})
    waiting = await run_of(api)
    claimed = await run_of(api)
    await api.claim(claimed["run_id"])
    elsewhere = await run_of(api, "success", assistant_id=other)
    every = [run["run_id"] for run in (done, failed, waiting, claimed, elsewhere)]
    assert await ids(api) == every[::-1] and await ids(api, sort_order="asc") == every
    for wanted, found in (
        ({"status": "success"}, [elsewhere, done]),
        ({"status": ["error", "timeout", "interrupted"]}, [failed]),
        ({"status": "pending"}, [waiting]),
        ({"status": ["running"]}, [claimed]),
        ({"status": ["running", "pending"]}, [claimed, waiting]),
        ({"status": []}, []),
        ({"assistant_id": other}, [elsewhere]),
        ({"graph_id": "noop", "status": "success"}, [done]),
        ({"thread_id": failed["thread_id"]}, [failed]),
        ({"thread_id": failed["thread_id"], "status": "success"}, []),
        ({"thread_id": claimed["thread_id"], "status": "running"}, [claimed]),
        ({"run_ids": [done["run_id"], waiting["run_id"]]}, [waiting, done]),
        ({"metadata": {"ticket": 8}}, [failed]),
        ({"metadata": {"graph_id": "other"}, "status": "success"}, [elsewhere]),
        ({"since": claimed["created_at"]}, [elsewhere, claimed]),
        ({"until": failed["created_at"]}, [done]),
        ({"since": failed["created_at"], "until": claimed["created_at"], "status": "pending"}, [waiting]),
    ):
        assert await ids(api, **wanted) == [run["run_id"] for run in found], wanted

    (item,), _ = await page(api, status="error")
    assert (item["error"]["error"], item["error"]["message"]) == ("ValueError", "no such place")
    assert (item["graph_id"], item["attempt"], "kwargs" in item) == ("noop", 1, False)
    (item,), _ = await page(api, status="error", select=["run_id", "kwargs"])
    assert item == {"run_id": failed["run_id"], "kwargs": failed["kwargs"]}


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_pages_neither_repeat_nor_skip_while_runs_begin_and_end(api: ApiHarness, order: str) -> None:
    before = [(await run_of(api, "success" if n % 2 else None))["run_id"] for n in range(7)]
    found, after = await page(api, limit=3, sort_order=order)
    while after is not None:
        await run_of(api)
        items, after = await page(api, limit=3, sort_order=order, after=after)
        found += items
        if len(found) > 7:
            break
    listed = [item["run_id"] for item in found if item["run_id"] in before]
    assert listed == (before[::-1] if order == "desc" else before)
    if order == "desc":
        assert len(found) == 7


async def test_runs_created_at_the_same_moment_are_cut_between_pages(api: ApiHarness) -> None:
    every = {(await run_of(api, "success"))["run_id"] for _ in range(4)}
    await api.pool.execute("UPDATE runs SET created_at = now()")
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        items, after = await page(api, limit=1, **({"after": after} if after else {}))
        found += [item["run_id"] for item in items]
    assert len(found) == 4 and set(found) == every


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"status": "done"}, "status"),
        ({"limit": 1001}, "limit"),
        ({"after": "yesterday"}, "after: is not the X-Pagination-Next of a page: 'yesterday'"),
        ({"after": "2026-01-01T00:00:00/nobody"}, "X-Pagination-Next"),
        ({"since": "noon"}, "since: must be an ISO-8601 time, not 'noon'"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until: must be an ISO-8601 time"),
        ({"since": 7}, "since"),
        ({"assistant_id": "noop"}, "assistant_id: must be a UUID"),
        ({"run_ids": ["x"]}, "must be a UUID"),
        ({"metadata": []}, "metadata"),
        ({"select": ["output"]}, "select: 'output' is not one of"),
        ({"run_ids": ["00000000-0000-4000-8000-000000000000"] * 1001}, "at most 1000"),
        ([], "must be a JSON object"),
    ],
    ids=str,
)
async def test_what_can_not_be_searched_for_is_422(api: ApiHarness, wanted: Any, said: str) -> None:
    status, answer = await api.ask("POST", "/runs/search", wanted)
    assert status == 422 and said in answer["detail"], answer
