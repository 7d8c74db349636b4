"""Codes of errors: the page that lists them, and which error has which."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from tests.api.api_harness import ApiHarness
from threadlog.api.http.errors import ErrorCode, usual_code

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `(\w+)` \| ([\d, ]+) \| ", re.MULTILINE)
NOBODY = "00000000-0000-4000-8000-000000000000"
LISTED = {code: {int(status) for status in statuses.split(",")} for code, statuses in ROW.findall(PAGE.read_text())}


def test_the_page_lists_the_codes_there_are() -> None:
    assert list(LISTED) == sorted(get_args(ErrorCode))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 426, 500, 503])
def test_the_page_has_the_usual_code_of_every_status(status: int) -> None:
    assert status in LISTED[usual_code(status)]


REQUESTS: list[tuple[str, str, str, str | None]] = [
    ("thread_not_found", "GET", f"/threads/{NOBODY}", None),
    ("thread_not_found", "PATCH", f"/threads/{NOBODY}", "{}"),
    ("run_not_found", "POST", "/threads/{thread}/runs/{nobody}/cancel", None),
    ("cron_not_found", "GET", f"/runs/crons/{NOBODY}", None),
    ("cron_not_found", "DELETE", f"/runs/crons/{NOBODY}", None),
    ("run_not_found", "GET", "/threads/{thread}/runs/{nobody}", None),
    ("assistant_not_found", "PATCH", f"/assistants/{NOBODY}", '{"name": "x"}'),
    ("graph_not_found", "POST", "/assistants", '{"graph_id": "nobody"}'),
    ("conflict", "POST", "/threads", '{"thread_id": "{thread}"}'),
    ("not_found", "GET", "/nowhere", None),
    ("method_not_allowed", "DELETE", "/ok", None),
    ("invalid_json", "POST", "/threads", "{"),
    ("invalid_request", "POST", "/threads/search", '{"limit": "many"}'),
    ("limit_exceeded", "POST", "/threads/search", json.dumps({"ids": [NOBODY] * 1001})),
    ("limit_exceeded", "POST", "/threads", "[" * 1000 + "]" * 1000),
    ("invalid_request", "POST", "/threads/search", json.dumps({"ids": [NOBODY] * 1001, "limit": "many"})),
]


async def test_errors_have_codes_beside_their_sentences(api: ApiHarness) -> None:
    thread = await api.thread()
    for code, method, path, body in REQUESTS:
        filled, data = (text and text.replace("{thread}", thread).replace("{nobody}", NOBODY) for text in (path, body))
        async with api.client.request(method, filled or "", data=data) as response:
            answer = await response.json()
            assert (answer["code"], response.status in LISTED[code]) == (code, True), (method, filled, data, answer)
            assert isinstance(answer["detail"], str)
