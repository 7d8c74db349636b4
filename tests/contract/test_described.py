"""Whatever a client sends, the response is one that /openapi.json describes, and never an error of the server's.

schemathesis makes requests from the description: valid ones and invalid ones, with ids that exist and ids that don't.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import servers
from tests.described import Description
from threadlog.api.app import ROUTES
from threadlog.api.http.openapi import describe

pytestmark = pytest.mark.server

APP = Path(__file__).parent / "app"
REQUESTS = 6  # of each operation and kind
SECONDS = 60.0  # for a response, on a busy machine
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# These streams stay open: what they send is shown elsewhere.
ENDLESS = {
    "GET /threads/{thread_id}/stream",
    "POST /threads/{thread_id}/stream/events",
    "GET /threads/{thread_id}/stream/events",
}
LATER = ("after_seconds",)  # a wait would wait for it
DOCUMENT = describe(ROUTES, "tests")
DESCRIPTION = Description(DOCUMENT)
OPERATIONS = {
    operation.label: operation
    for operation in (result.ok() for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own: what is made here, and cancelled, is nobody else's."""
    config = tmp_path_factory.mktemp("app") / "langgraph.json"
    graphs = {"noop": f"{APP}/plain.py:noop", "ask": f"{APP}/interrupts.py:ask"}
    config.write_text(json.dumps({"dependencies": [str(APP)], "graphs": graphs}))
    server = servers.start(config, executors=1)
    yield server.url
    server.stop()


@pytest.fixture
def existing(url: str) -> dict[str, str]:
    """By the name of a parameter, an id that exists: of a thread that waits at an interrupt, its run, and so on."""
    with httpx.Client(base_url=url, timeout=SECONDS) as client:

        def post(path: str, **body: Any) -> Any:
            response = client.post(path, json=body)
            response.raise_for_status()
            return response

        thread_id = post("/threads").json()["thread_id"]
        waited = post(f"/threads/{thread_id}/runs/wait", assistant_id="ask", input={"items": []})
        run_id = waited.headers["Content-Location"].rpartition("/")[2]
        assistant_id = post("/assistants", graph_id="noop").json()["assistant_id"]
        state = client.get(f"/threads/{thread_id}/state").json()
    return {
        "thread_id": thread_id,
        "run_id": run_id,
        "assistant_id": assistant_id,
        "checkpoint_id": state["checkpoint_id"],
    }


@pytest.mark.parametrize("label", sorted(OPERATIONS.keys() - ENDLESS))
def test_every_response_is_described(label: str, url: str, existing: dict[str, str]) -> None:
    operation = OPERATIONS[label]
    session = requests.Session()

    @hypothesis.settings(
        max_examples=REQUESTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def ask(data: st.DataObject) -> None:
        modes = list(GenerationMode) if operation.body or operation.query else [GenerationMode.POSITIVE]
        case = data.draw(operation.as_strategy(data.draw(st.sampled_from(modes))))
        if data.draw(st.sampled_from([True, True, False])):
            _take_existing(case, existing)
        response = case.call(base_url=url, session=session, timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)
        content_type = (response.headers.get("content-type") or [""])[0].partition(";")[0]
        path = operation.path
        assert not DESCRIPTION.problems(
            operation.method.upper(), path, response.status_code, content_type, response.content, response.headers
        )

    with session:
        ask()


def _take_existing(case: schemathesis.Case, existing: dict[str, str]) -> None:
    """Put ids that exist in the place of those in the path, and of the assistant in the body."""
    for name in set(case.path_parameters or {}) & existing.keys():
        case.path_parameters[name] = existing[name]
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(body, dict):
            for name in LATER:
                body.pop(name, None)
            if isinstance(body.get("assistant_id"), str):
                body["assistant_id"] = "noop"
            if isinstance(body.get("graph_id"), str):
                body["graph_id"] = "noop"
