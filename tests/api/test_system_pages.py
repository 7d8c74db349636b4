"""GET /usage, /system and /runs/webhooks: what operators look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import Auth

from tests.api.api_harness import ApiHarness, api_harness
from tests.subscribers.test_usage import NOON, prices, records
from threadlog.api.auth.gate import Gate
from threadlog.api.runs.webhooks import without_secrets
from threadlog.api.settings import ApiSettings
from threadlog.engine.domain.commands import ReportWebhook
from threadlog.engine.user_code.auth_section import AuthSection
from threadlog.projections.derived.tables import DerivedTables

AROUND = "since=2026-11-21T00:00:00Z&until=2026-11-22T00:00:00Z"


@pytest.fixture
async def counted(api: ApiHarness, database: str, tmp_path: Path) -> ApiHarness:
    """An api beside which the story of the usage's tests was counted."""
    tables = await DerivedTables.open(database, prices(tmp_path))
    await tables.count(records())
    await tables.aclose()
    return api


async def test_without_counting_it_says_how_to_switch_it_on(api: ApiHarness) -> None:
    status, answer = await api.ask("GET", "/usage")
    assert (status, answer["code"]) == (404, "usage_not_counted") and "THREADLOG_DERIVE=true" in answer["detail"]
    assert (await api.call("GET", "/system"))["usage"] == {"counted": False, "counting": False, "counted_until": None}


async def test_usage_has_runs_tokens_cost_and_durations(counted: ApiHarness, database: str, tmp_path: Path) -> None:
    told = await counted.call("GET", f"/usage?by=all&{AROUND}")
    assert (told["by"], told["window"], told["counting"], told["left_out"]) == ("all", "all", False, 0)
    assert told["counted_until"] == (NOON + timedelta(seconds=3608)).isoformat(timespec="microseconds")
    (row,) = told["rows"]
    assert (row["start"], row["runs"], row["failed"], row["interrupted"], row["calls"]) == (None, 4, 1, 1, 4)
    assert row["run_max"] == 60 and row["run_p95"] == pytest.approx(60, rel=0.2)
    assert row["models"]["free"]["unpriced_calls"] == 1 and round(row["cost"], 5) == 6.00004

    hours = (await counted.call("GET", f"/usage?by=graph&window=hour&{AROUND}"))["rows"]
    assert [(hour["start"][11:13], hour["value"], hour["runs"]) for hour in hours] == [
        ("12", "g", 1), ("12", "h", 1), ("13", "g", 2)
    ]  # fmt: skip
    top = await counted.call("GET", f"/usage?by=graph&top=1&{AROUND}")
    assert [row["value"] for row in top["rows"]] == ["g"] and top["left_out"] == 1
    one = await counted.call("GET", f"/usage?by=tag&value=blue&value=gone&{AROUND}")
    assert [(row["value"], row["runs"]) for row in one["rows"]] == [("blue", 1)]
    free = await counted.call("GET", f"/usage?by=all&model=free&{AROUND}")
    assert [(row["calls"], row["total_tokens"], row["runs"]) for row in free["rows"]] == [(1, 8, 4)]
    tables = await DerivedTables.open(database, prices(tmp_path))
    await tables.alive()
    await tables.aclose()
    assert (await counted.call("GET", "/usage"))["counting"] is True


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=moon", "by: must be one of all, assistant, graph, user, tag, not 'moon'"),
        ("window=week", "window: must be one of all, hour, day, month"),
        ("since=noon", "since: must be an ISO-8601 time, not 'noon'"),
        ("top=501", "top: must be between 1 and 500"),
        ("window=hour&since=2020-01-01", "choose a longer window"),
        ("until=0001-01-01T00:00:00Z", None),
        ("window=month&since=0001-01-01&until=0001-02-01", None),
        ("value=" + ",".join(["x"] * 1001), "value: has 1001 elements"),
    ],
)
async def test_what_usage_can_not_show_is_said(counted: ApiHarness, query: str, said: str | None) -> None:
    status, answer = await counted.ask("GET", f"/usage?{query}")
    assert (status, answer.get("rows")) == (200, []) if said is None else status == 422 and said in answer["detail"]


async def test_the_system_tells_owners_lag_and_executors(api: ApiHarness) -> None:
    run = await api.run(await api.thread())
    await api.claim(run["run_id"])
    told = await api.call("GET", "/system")
    assert {one["lag"] for one in told["partitions"]} == {0} and max(one["projected"] for one in told["partitions"]) > 0
    (executor,) = told["executors"]
    assert (executor["executor_id"], executor["slots"], executor["active"]) == ("somebody", 10, 1)
    assert (told["skipped"], told["not_projected"], told["webhooks"]["dead"]) == ([], 0, 0)
    await api.pool.execute("INSERT INTO projection_skips VALUES (0, 7, 0, 'k', 'run.created', 'no', '2026-01-01')")
    told = await api.call("GET", "/system")
    assert told["not_projected"] == 1 and told["skipped"][0]["offset"] == 7


async def failed_webhook(api: ApiHarness, reason: str, *, again: bool = False) -> str:
    thread_id = await api.thread()
    run = await api.run(thread_id, webhook="https://93.184.216.34/hook?token=secret")
    await api.report(thread_id, run["run_id"], "success")
    due_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat() if again else None
    await api.submit(
        ReportWebhook(
            thread_id=thread_id, run_id=run["run_id"], attempt=1, outcome="failed" if again else "dead", status=500,
            reason=reason, due_at=due_at,
        )
    )  # fmt: skip
    return str(run["run_id"])


async def test_webhooks_that_could_not_be_delivered_are_listed(api: ApiHarness) -> None:
    dead = [await failed_webhook(api, f"no. {n}") for n in range(3)]
    again = await failed_webhook(api, "busy", again=True)
    every = await api.call("GET", "/runs/webhooks")
    assert [one["run_id"] for one in every] == [again, *dead[::-1]]
    assert every[0]["state"] == "failed" and every[0]["next_attempt_at"] and every[1]["next_attempt_at"] is None
    assert (every[1]["url"], every[1]["reason"]) == ("https://93.184.216.34/hook", "no. 2")
    assert (every[1]["attempts"], every[1]["http_status"], every[1]["run_status"]) == (1, 500, "success")
    assert (await api.call("GET", "/system"))["webhooks"] == {"waiting": 1, "failed": 1, "dead": 3}
    found: list[str] = []
    after = ""
    while True:
        query = {"state": "dead", "limit": "2", **({"after": after} if after else {})}
        async with api.client.get("/runs/webhooks", params=query) as answer:
            found += [one["run_id"] for one in await answer.json()]
            after = answer.headers.get("X-Pagination-Next", "")
        if not after:
            break
    assert found == dead[::-1]
    assert await api.call("GET", "/runs/webhooks?since=2999-01-01") == []
    for query, said in (
        ({"state": "lost"}, "state: must be dead or failed"), ({"after": "x"}, "after: "), ({"limit": "0"}, "limit: ")
    ):  # fmt: skip
        async with api.client.get("/runs/webhooks", params=query) as answer:
            assert answer.status == 422 and said in (await answer.json())["detail"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.example:1/a?b#c", "https://h.example:1/a"),
        ("/own/path?x", "/own/path"),
        ("http://[oops", ""),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def auth_of(decides: Any = None) -> Auth:
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str | None) -> dict[str, Any]:
        return {"identity": (authorization or "").removeprefix("Bearer ")}

    @auth.on.threads
    async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
        owner = {"owner": ctx.user.identity}
        value.setdefault("metadata", {}).update(owner)
        return owner

    if decides is not None:

        @auth.on(resources=["usage", "system"], actions=["read"])  # type: ignore[arg-type]
        async def operators(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
            return decides(ctx.user.identity)

    return auth


@pytest.mark.parametrize("decides", [None, lambda who: who == "root" or {"owner": who}], ids=["none", "handler"])
async def test_only_who_is_allowed_all_of_it_sees_what_is_others(database: str, tmp_path: Path, decides: Any) -> None:
    gate = Gate(auth_of(decides), AuthSection("", "auth", True), token="t", studio=False)
    tables = await DerivedTables.open(database, prices(tmp_path))
    await tables.count(records())  # by ann
    await tables.aclose()
    async with api_harness(database, ApiSettings(), gate=gate) as api:
        await api.register("noop")

        def of(identity: str) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {identity}"}}

        for identity, runs in (("ann", [4]), ("bob", [])):
            own = await api.call("GET", f"/usage?by=user&value=user:ann&{AROUND}", **of(identity))
            assert [row["runs"] for row in own["rows"]] == runs and own["left_out"] == 0
            status, answer = await api.ask("GET", f"/usage?{AROUND}", **of(identity))
            assert status == 403 and "by=user" in answer["detail"]
            assert (await api.ask("GET", "/system", **of(identity)))[0] == 403
        status, _ = await api.ask("GET", f"/usage?{AROUND}", **of("root"))
        assert status == (403 if decides is None else 200)
        assert (await api.ask("GET", "/system", **of("root")))[0] == (403 if decides is None else 200)

        thread_id = (await api.call("POST", "/threads", {}, **of("ann")))["thread_id"]
        new = {"assistant_id": "noop", "webhook": "https://93.184.216.34/hook"}
        run = await api.call("POST", f"/threads/{thread_id}/runs", new, **of("ann"))
        await api.report(thread_id, run["run_id"], "success")
        await api.submit(ReportWebhook(thread_id=thread_id, run_id=run["run_id"], attempt=1, outcome="dead"))
        assert len(await api.call("GET", "/runs/webhooks", **of("ann"))) == 1
        assert await api.call("GET", "/runs/webhooks", **of("bob")) == []
