"""An application's own encryption handlers, and fields that are encrypted while searches filter on the others."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.fernet import Fernet
from langgraph_sdk import get_client
from langgraph_sdk.errors import APIStatusError

from tests.servers import Server
from tests.waiting import eventually
from threadlog.deploy.compose.encryption import keyring_of
from threadlog.deploy.failures import CannotRun

from .conftest import APP
from .stored import settings_of, stored

HANDLERS = Path(__file__).parent / "encrypting_app" / "langgraph.json"
NAMES = HANDLERS.with_name("by_names.json")
PAGE = Path(__file__).parents[2] / "docs" / "encryption.md"
CANARY = "canary-7c3e"


def of_tenant(name: str) -> dict[str, str]:
    return {"X-Encryption-Context": b64encode(json.dumps({"tenant": name}).encode()).decode()}


@pytest.fixture(scope="module", params=["handlers", "names"])
def encrypting(request: pytest.FixtureRequest, start_server: Callable[..., Server]) -> Iterator[Server]:
    """A server with handlers of the application, then one with names of fields: clients notice no difference."""
    by_names = {"LANGGRAPH_AES_KEY": "0123456789abcdef" * 2, "LANGGRAPH_AES_JSON_KEYS": "email,ssn"}
    if request.param == "handlers":
        server = start_server(HANDLERS, executors=1)
    else:
        server = start_server(NAMES, env=by_names, executors=1)
    yield server
    server.stop()


def has_handlers(server: Server) -> bool:
    return str(HANDLERS) in server.process.args  # type: ignore[operator]


async def leaks(server: Server, canary: str = CANARY) -> list[bytes]:
    return [value[:300] for value in await stored(server) if canary.encode() in value]


async def owners(server: Server) -> dict[str, Any]:
    connection = await asyncpg.connect(server.database_uri)
    try:
        rows = await connection.fetch("SELECT owner, context::text FROM data_keys")
    finally:
        await connection.close()
    return {row["owner"]: None if row["context"] is None else json.loads(row["context"]) for row in rows}


async def test_threads_and_runs(encrypting: Server) -> None:
    client = get_client(url=encrypting.url, headers=of_tenant("ann"))
    metadata = {"city": "Delft", "email": CANARY, "owner": {"name": "x", "ssn": [CANARY]}}
    thread = await client.threads.create(metadata=metadata)
    thread_id = thread["thread_id"]
    assert thread["metadata"] == metadata
    result = await client.runs.wait(
        thread_id, "ask", input={"items": [CANARY]}, metadata={"email": f"{CANARY} of run", "lane": "fast"},
        context={"who": CANARY},
    )  # fmt: skip
    assert result["items"] == [CANARY]
    await client.threads.update(thread_id, metadata={"ssn": CANARY, "street": "Oude Delft"})
    shown = (await client.threads.get(thread_id))["metadata"]
    assert metadata.items() <= shown.items() and shown["ssn"] == CANARY and shown["street"] == "Oude Delft"

    found = await client.threads.search(metadata={"city": "Delft", "street": "Oude Delft"})
    assert [each["thread_id"] for each in found] == [thread_id] and found[0]["metadata"]["email"] == CANARY
    if has_handlers(encrypting):  # what they encrypt, nothing knows but they
        assert await client.threads.search(metadata={"email": CANARY}) == []
    (run,) = await client.runs.list(thread_id)
    assert run["metadata"]["email"] == f"{CANARY} of run" and run["metadata"]["lane"] == "fast"
    assert run["kwargs"]["input"] == {"items": [CANARY]}
    # A later run inherits what the thread has, and what the run before left on it.
    await client.runs.wait(thread_id, "ask", command={"resume": CANARY})
    later = (await client.runs.list(thread_id))[0]
    assert later["metadata"]["ssn"] == CANARY and later["metadata"]["city"] == "Delft"
    await client.threads.update_state(thread_id, {"items": [CANARY]})
    history = await client.threads.get_history(thread_id, limit=20)
    assert history[0]["values"]["items"][-1] == CANARY and history[0]["metadata"]["city"] == "Delft"
    copy = await client.threads.copy(thread_id)
    assert (await client.threads.get(copy["thread_id"]))["metadata"]["ssn"] == CANARY

    assert await leaks(encrypting) == []
    kept = await owners(encrypting)
    assert {thread_id, copy["thread_id"]} <= kept.keys()
    if has_handlers(encrypting):
        assert kept[thread_id] == {"tenant": "ann"}
        # The context was stored: whoever reads need not send it.
        async with get_client(url=encrypting.url) as nobody:
            assert (await nobody.threads.get(thread_id))["metadata"]["email"] == CANARY
            assert (await nobody.threads.get_state(thread_id))["values"]["items"][0] == CANARY
    await client.threads.delete(thread_id)
    await client.threads.delete(copy["thread_id"])
    assert not {thread_id, copy["thread_id"]} & (await owners(encrypting)).keys()


async def test_a_search_for_what_is_encrypted_is_refused(encrypting: Server) -> None:
    if has_handlers(encrypting):
        return  # fields that no setting names
    async with httpx.AsyncClient(base_url=encrypting.url) as http:
        for path, body, where in (
            ("/threads/search", {"metadata": {"email": CANARY}}, "metadata: 'email'"),
            ("/threads/count", {"metadata": {"owner": {"ssn": [CANARY]}}}, "metadata.owner: 'ssn'"),
            ("/assistants/search", {"metadata": {"tags": [{"email": 1}]}}, "metadata.tags: 'email'"),
            ("/assistants/count", {"metadata": {"email": CANARY}}, "metadata: 'email'"),
            ("/runs/search", {"metadata": {"email": CANARY}}, "metadata: 'email'"),
            ("/runs/crons/search", {"metadata": {"email": CANARY}}, "metadata: 'email'"),
            ("/runs/crons/count", {"metadata": {"email": CANARY}}, "metadata: 'email'"),
            ("/store/items/search", {"filter": {"email": {"$eq": CANARY}}}, "filter: 'email'"),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path
            assert answer.json()["detail"].startswith(f"{where} is an encrypted field"), answer.json()
            assert CANARY not in answer.text


async def test_assistants(encrypting: Server) -> None:
    client = get_client(url=encrypting.url, headers=of_tenant("bob"))
    assistant = await client.assistants.create(
        "ask", metadata={"team": "red", "email": CANARY}, config={"configurable": {"ssn": CANARY, "tone": "dry"}},
        name="one",
    )  # fmt: skip
    assistant_id = assistant["assistant_id"]
    await client.assistants.update(assistant_id, metadata={"ssn": CANARY}, name="two")
    for shown in (
        await client.assistants.get(assistant_id),
        *(await client.assistants.search(metadata={"team": "red"})),
    ):
        assert shown["metadata"] == {"team": "red", "email": CANARY, "ssn": CANARY} and shown["name"] == "two"
        assert shown["config"]["configurable"] == {"ssn": CANARY, "tone": "dry"}
    versions = await client.assistants.get_versions(assistant_id)
    assert versions[-1]["metadata"]["email"] == CANARY
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], assistant_id, input={"items": []})
    (run,) = await client.runs.list(thread["thread_id"])
    assert run["kwargs"]["config"]["configurable"]["ssn"] == CANARY and run["metadata"]["email"] == CANARY
    assert await leaks(encrypting) == []
    assert f"assistant:{assistant_id}" in await owners(encrypting)
    await client.assistants.delete(assistant_id)
    assert f"assistant:{assistant_id}" not in await owners(encrypting)


async def test_items_of_the_store(encrypting: Server) -> None:
    client = get_client(url=encrypting.url, headers=of_tenant("ann"))
    await client.store.put_item(("people", "x"), "bob", {"email": CANARY, "city": "Gouda", "n": 3})
    item = await client.store.get_item(("people", "x"), "bob")
    assert item is not None and item["value"] == {"email": CANARY, "city": "Gouda", "n": 3}
    found = await client.store.search_items(("people",), filter={"city": "Gouda", "n": {"$gt": 2}})
    assert [each["value"]["email"] for each in found["items"]] == [CANARY]
    result = await client.runs.wait(None, "notes", input={"root": "of nodes", "email": CANARY})
    assert result["found"] == {"email": CANARY, "city": "Delft"}
    item = await client.store.get_item(("of nodes",), "ann")
    assert item is not None and item["value"]["email"] == CANARY
    assert await leaks(encrypting) == []
    if has_handlers(encrypting):
        assert (await owners(encrypting))["store:of nodes"] == {"tenant": "ann"}


async def test_crons(encrypting: Server) -> None:
    client = get_client(url=encrypting.url, headers=of_tenant("carl"))
    thread = await client.threads.create()
    cron = await client.crons.create_for_thread(
        thread["thread_id"], "ask", schedule="* * * * * *", input={"items": [CANARY]},
        metadata={"email": CANARY, "lane": "slow"},
    )  # fmt: skip

    async def fired() -> bool:
        runs = await client.runs.list(thread["thread_id"])
        return any(run["status"] == "success" and run["metadata"].get("email") == CANARY for run in runs)

    await eventually(fired, says=lambda: f"the cron's run ends:\n{encrypting.output}")
    (found,) = await client.crons.search(thread_id=thread["thread_id"])
    assert found["metadata"] == {"email": CANARY, "lane": "slow"}
    assert await leaks(encrypting) == []
    if has_handlers(encrypting):
        kept = await owners(encrypting)
        assert kept[cron["cron_id"]] == kept[thread["thread_id"]] == {"tenant": "carl"}
    await client.crons.delete(cron["cron_id"])


async def test_a_kept_answer_is_encrypted_and_given_again(encrypting: Server) -> None:
    async with httpx.AsyncClient(base_url=encrypting.url, headers=of_tenant("ann"), timeout=60) as http:
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/threads", {"metadata": {"email": CANARY}}),
            ("POST", "/assistants", {"graph_id": "ask", "metadata": {"email": CANARY}}),
            ("POST", "/runs/wait", {"assistant_id": "ask", "input": {"items": [CANARY]}}),
        ]
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        asked.append(("POST", f"/threads/{thread}/runs/wait", {"assistant_id": "ask", "input": {"items": [CANARY]}}))
        asked.append(("POST", f"/threads/{thread}/state", {"values": {"items": [CANARY]}}))
        for n, (method, path, body) in enumerate(asked):
            key = {"Idempotency-Key": f"key {n}"}
            first = await http.request(method, path, json=body, headers=key)
            again = await http.request(method, path, json=body, headers=key)
            assert first.status_code == again.status_code == 200, (path, first.text, again.text)
            if path != "/runs/wait":  # whose thread is gone, and with it the key of its answer
                assert first.json() == again.json(), path
        runs = (await http.get(f"/threads/{thread}/runs")).json()
        assert len(runs) == 1
    assert await leaks(encrypting) == []


async def test_no_client_can_send_what_stands_for_an_encrypted_field(encrypting: Server) -> None:
    client = get_client(url=encrypting.url)
    thread = await client.threads.create()
    for call in (
        client.threads.create(metadata={"a": {"b": ["~encj1:AAAA"]}}),
        client.threads.update(thread["thread_id"], metadata={"a": "~encj1:AAAA"}),
        client.runs.create(thread["thread_id"], "ask", metadata={"a": "~encj1:AAAA"}),
        client.assistants.create("ask", context={"a": "~encj1:AAAA"}),
        client.store.put_item(("x",), "y", {"a": "~encj1:AAAA"}),
    ):
        with pytest.raises(APIStatusError) as refused:
            await call
        assert refused.value.status_code == 422 and "~encj1:" in refused.value.message


async def test_the_read_models_are_those_of_the_log(encrypting: Server) -> None:
    client = get_client(url=encrypting.url)
    thread = await client.threads.create(metadata={"email": CANARY})
    await client.runs.wait(thread["thread_id"], "ask", input={"items": [CANARY]})
    verified = await asyncio.to_thread(encrypting.threadlog, "events", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("encrypting", ["handlers"], indirect=True)
async def test_a_handler_that_fails_fails_for_its_sender_alone(encrypting: Server) -> None:
    async with httpx.AsyncClient(base_url=encrypting.url, timeout=60) as http:
        run = {"assistant_id": "ask", "input": {"items": [CANARY]}}
        unknown = await http.post("/runs/wait", json=run, headers=of_tenant("unknown"))
        said = {"detail": "there is no such tenant", "code": "encryption_failed"}
        assert (unknown.status_code, unknown.json()) == (400, said)
        broken = await http.post("/runs/wait", json=run, headers=of_tenant("broken"))
        assert (broken.status_code, broken.json()["code"]) == (500, "encryption_failed")
        assert "encrypt.json raised KeyError" in broken.json()["detail"]
        keyed = {**of_tenant("unknown"), "Idempotency-Key": "not kept"}
        assert (await http.post("/runs/wait", json=run, headers=keyed)).status_code == 400
        assert (await http.post("/runs/wait", json=run, headers={**keyed, **of_tenant("ann")})).status_code == 200
        closed = await http.post("/threads", json={"metadata": {"email": "x"}}, headers=of_tenant("closed"))
        assert (closed.status_code, closed.json()["detail"]) == (403, "This tenant's key is disabled")
        for header in ("no base64!", b64encode(b"[1]").decode(), b64encode(b"{").decode()):
            bad = await http.post("/threads", json={}, headers={"X-Encryption-Context": header})
            assert (bad.status_code, bad.json()["code"]) == (422, "encryption_context_invalid")
        fine = await http.post("/runs/wait", json=run, headers=of_tenant("ann"))
        assert fine.status_code == 200 and fine.json()["items"] == [CANARY]


@pytest.mark.parametrize("encrypting", ["handlers"], indirect=True)
async def test_without_the_handlers_a_server_does_not_start(encrypting: Server) -> None:
    client = get_client(url=encrypting.url, headers=of_tenant("ann"))
    await client.threads.create(metadata={"email": "x"})
    settings = settings_of(encrypting, config=APP / "langgraph.json")
    with pytest.raises(CannotRun, match="encrypted by handlers of the application"):
        async with keyring_of(settings, encrypting.database_uri, name="test"):
            pass


async def test_the_handlers_of_the_page_run(own_server: Callable[..., Server], tmp_path: Path) -> None:
    _, handlers, asking = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (section,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "encryption.py").write_text(handlers)
    content = json.loads(section) | {"dependencies": [str(APP)], "graphs": {"ask": f"{APP}/interrupts.py:ask"}}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))
    keys = {f"KEY_OF_{name}": Fernet.generate_key().decode() for name in ("ANN", "BOB")}
    server = own_server(tmp_path / "langgraph.json", env=keys, executors=1)
    names: dict[str, Any] = {}
    hello = '{"messages": [{"role": "user", "content": "hello"}]}'
    exec(asking.replace('"agent"', '"ask"').replace(hello, f'{{"items": ["{CANARY}"]}}'), names)
    state = await names["of_ann"](get_client(url=server.url))
    assert state["values"]["items"] == [CANARY]
    assert list((await owners(server)).values()) == [{"tenant": "ANN"}]
    assert await leaks(server) == []


async def test_the_context_may_follow_from_who_is_authenticated(own_server: Callable[..., Server]) -> None:
    server = own_server(HANDLERS.with_name("with_auth.json"), executors=1)
    ann = get_client(url=server.url, headers={"Authorization": "Bearer ann", **of_tenant("somebody else")})
    thread = await ann.threads.create(metadata={"email": CANARY, "city": "Delft"})
    asked = await ann.runs.wait(thread["thread_id"], "ask", input={"items": [CANARY]})
    assert asked["items"] == [CANARY]
    assert (await owners(server))[thread["thread_id"]] == {"tenant": "ann"}
    (found,) = await ann.threads.search(metadata={"city": "Delft"})
    assert found["metadata"]["email"] == CANARY and found["metadata"]["owner"] == "ann"
    assert await leaks(server) == []
    # What authorization filters by stays readable, or nobody would find it again.
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": "Bearer greedy"}) as greedy:
        refused = await greedy.post("/threads", json={"metadata": {"a": "b"}})
        assert (refused.status_code, refused.json()["code"]) == (500, "encryption_failed")
        assert "authorization filters by metadata.owner" in refused.json()["detail"]


async def test_ciphertext_of_another_thread_is_shown_to_nobody_who_sends_it(encrypting: Server) -> None:
    canary = f"{CANARY}-stolen"
    client = get_client(url=encrypting.url, headers=of_tenant("ann"))
    thread = await client.threads.create(metadata={"email": canary})
    await client.runs.wait(thread["thread_id"], "ask", input={"items": [canary]})
    connection = await asyncpg.connect(encrypting.database_uri)
    try:
        kwargs, metadata = await connection.fetchrow(
            "SELECT r.kwargs::text, t.metadata::text FROM runs r JOIN threads t USING (thread_id) "
            "WHERE t.thread_id = $1::uuid",
            thread["thread_id"],
        )
    finally:
        await connection.close()
    content, field = json.loads(kwargs)["input"], json.loads(metadata)["email"]
    assert content.startswith("~enc1:") and field.startswith("~encj1:")

    mine = await client.threads.create(metadata={"a": content, "ssn": content, "x": "mine"})
    thread_id = mine["thread_id"]
    await client.runs.wait(
        thread_id, "ask", input={"items": [content, field]}, metadata={"x": "mine"},
        config={"configurable": {"x": field}},
    )  # fmt: skip
    await client.threads.update_state(thread_id, {"items": [field]})
    seen = [
        await client.threads.get(thread_id), await client.threads.get_state(thread_id),
        await client.threads.get_history(thread_id, limit=20), await client.runs.list(thread_id),
    ]  # fmt: skip
    assert content in json.dumps(seen) and canary not in json.dumps(seen)
    failed = await client.runs.wait(None, "notes", input={"root": "r", "email": "x", "city": field}, raise_error=False)
    assert "stands for an encrypted value" in failed["__error__"]["message"]
