"""One server for the whole suite, the public client against it, and what most tests start from.

The suite runs against our own server in both modes; `THREADLOG_TEST_URL` points it at any server that already runs the
graphs of `app/`, and `THREADLOG_TEST_REFERENCE=1` leaves out what the contract asks for beyond the reference server.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.described import Description
from tests.servers import Server

from .gate import Gate

APP = Path(__file__).parent / "app"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "star: the contract asks for more than the reference server does")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reference = os.environ.get("THREADLOG_TEST_REFERENCE")
    given = os.environ.get("THREADLOG_TEST_URL")
    for item in items:
        if reference and item.get_closest_marker("star"):
            item.add_marker(pytest.mark.skip(reason="beyond the reference server"))
        if not given and {"client", "http"} & set(getattr(item, "fixturenames", ())):
            item.fixturenames.append("described")  # type: ignore[attr-defined]
        if given and "own_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="starts a server of its own, which is not the given one"))


@pytest.fixture(scope="session")
def url(server: Server) -> str:
    """Where the server under test listens."""
    return server.url


@pytest.fixture(scope="session")
async def _description(url: str) -> Description:
    """What the server says of its responses."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        return Description((await http.get("/openapi.json")).json())


@pytest.fixture
def described(_description: Description, client: LangGraphClient, http: httpx.AsyncClient) -> Iterator[None]:
    """Compares every response of the test, to either client, with the server's description of it: of streams the
    status and the headers."""
    problems: list[str] = []

    async def compare(response: httpx.Response) -> None:
        content_type = response.headers.get("content-type", "").partition(";")[0]
        # One without a length is sent while a run goes on, as streams are: it is not to be waited for here.
        looked_at = content_type == "application/json" and "content-length" in response.headers
        body = await response.aread() if looked_at else None
        request = response.request
        problems.extend(
            _description.problems(
                request.method, request.url.path, response.status_code, content_type, body, response.headers
            )
        )

    hooks = [client.http.client.event_hooks, http.event_hooks]
    for each in hooks:
        each["response"].append(compare)
    yield
    for each in hooks:
        each["response"].remove(compare)
    assert not problems, "\n".join(["not as /openapi.json has it:", *problems])


@pytest.fixture(scope="session")
async def client(url: str) -> AsyncIterator[LangGraphClient]:
    """The unmodified public client."""
    async with get_client(url=url, api_key=None) as client:
        yield client


@pytest.fixture(scope="session")
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP, for what the client does not show: headers, framing, bad input."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http


@pytest.fixture
def graphs(tmp_path: Path) -> Callable[..., Path]:
    """A langgraph.json with some of the app's graphs, and of its other sections those named: few start much sooner."""

    def write(*names: str, sections: Sequence[str] = ()) -> Path:
        declared = json.loads((APP / "langgraph.json").read_text())
        all_of_them = declared["graphs"]
        found = {name: all_of_them[name] for name in names}
        chosen = {name: str(APP / (it["path"] if isinstance(it, dict) else it)) for name, it in found.items()}
        more = {section: declared[section] for section in sections}
        file = tmp_path / "langgraph.json"
        file.write_text(json.dumps({"dependencies": [str(APP)], "graphs": chosen, **more}))
        return file

    return write


@pytest.fixture
async def thread_id(client: LangGraphClient) -> str:
    """A thread of this test's own."""
    return (await client.threads.create())["thread_id"]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Holds runs of the gated graphs until the test opens it."""
    return Gate(tmp_path)
