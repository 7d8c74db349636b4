"""The application's encryption handlers: what they are told, what they may do, and what becomes of a failing one."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import orjson
import pytest
from langgraph_sdk import Encryption

from tests.engine.test_encryption import MASTER, THREAD, KeysInMemory
from threadlog.engine.domain.commands import (
    Command,
    CreateAssistant,
    CreateRun,
    CreateThread,
    UpdateThread,
    WriteItems,
)
from threadlog.engine.encryption.cipher import DataKey
from threadlog.engine.encryption.field_cipher import (
    field_key_ids,
    field_names,
    field_token,
    has_field_token,
    is_field_token,
    open_fields,
)
from threadlog.engine.encryption.fields import FieldSealer
from threadlog.engine.encryption.handlers import EncryptionHandlers, HandlerFailed
from threadlog.engine.encryption.keys import FAILED_SECONDS, Keyring
from threadlog.engine.encryption.wrapping import HANDLERS, WithHandlers, WithInstallationKey
from threadlog.engine.encryption_context import CONTEXT, CONTEXT_BYTES, PROTECTED, InvalidContext, context_of_header

SECRET = "the canary sings"
RENEWED = b"renewed since:"  # more than a key's random bytes begin with by chance


class Tenants:
    """Handlers that turn bytes around, and note what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str | None, dict[str, Any]]] = []
        self.hangs = self.blocks = self.raises = self.renews = False
        self.encryption = encryption = Encryption()

        async def turned(ctx: Any, data: bytes) -> bytes:
            await self._behave(ctx)
            return data[::-1]

        async def turned_back(ctx: Any, data: bytes) -> Any:
            await self._behave(ctx)
            return DecryptResult(data[::-1], RENEWED + data) if self.renews else data.removeprefix(RENEWED)[::-1]

        async def hidden(ctx: Any, data: dict[str, Any]) -> dict[str, Any]:
            await self._behave(ctx)
            return {name: f"x{value[::-1]}" if name == "secret" else value for name, value in data.items()}

        async def shown(ctx: Any, data: dict[str, Any]) -> dict[str, Any]:
            await self._behave(ctx)
            return {name: value[:0:-1] if name == "secret" else value for name, value in data.items()}

        encryption.encrypt.blob(turned)
        encryption.decrypt.blob(turned_back)
        encryption.encrypt.json(hidden)
        encryption.decrypt.json(shown)

    async def _behave(self, ctx: Any) -> None:
        self.told.append((ctx.model, ctx.field, ctx.metadata))
        if self.hangs:
            await asyncio.sleep(3600)
        if self.blocks:
            time.sleep(2.5)  # noqa: ASYNC251 - as a careless one does
        if self.raises:
            raise RuntimeError("the key service is away")


class DecryptResult:
    """As in later versions of the SDK."""

    def __init__(self, plaintext: Any, replacement: Any) -> None:
        self.plaintext, self.replacement = plaintext, replacement


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


def keyring_of(tenants: Tenants, store: KeysInMemory | None = None, **options: Any) -> Keyring:
    handlers = EncryptionHandlers(tenants.encryption, seconds=options.pop("seconds", 5.0))
    return Keyring(WithHandlers(handlers), store or KeysInMemory(), handlers=handlers, **options)


# --- the context ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "%", "bm8ganNvbg==", "WzFd", "bnVsbA==", "e30"])
def test_a_header_that_is_no_object_is_refused(header: str) -> None:
    with pytest.raises(InvalidContext, match="X-Encryption-Context"):
        context_of_header(header)


def test_so_is_one_that_is_too_large() -> None:
    with pytest.raises(InvalidContext, match=f"at most {CONTEXT_BYTES}"):
        context_of_header(b64encode(orjson.dumps({"a": "x" * CONTEXT_BYTES})).decode())


# --- data keys --------------------------------------------------------------------------------------------------------


async def test_a_key_is_wrapped_in_the_context_of_its_request_and_unwrapped_in_it_anywhere(tenants: Tenants) -> None:
    store = KeysInMemory()
    CONTEXT.set({"tenant": "ann"})
    key = await keyring_of(tenants, store).ensure(THREAD)
    CONTEXT.set({})
    kept = store.kept[THREAD]
    assert kept.wrapped_by == HANDLERS and key.secret not in kept.wrapped
    assert await keyring_of(tenants, store).ensure(THREAD) == key
    # Whoever makes it looks whether it can be decrypted, before anything is encrypted with it.
    assert tenants.told == [("thread", "data_key", {"tenant": "ann"})] * 3


async def test_all_who_need_a_key_share_one_call(tenants: Tenants) -> None:
    store = KeysInMemory()
    key = await keyring_of(tenants, store).ensure(THREAD)
    reader = keyring_of(tenants, store)
    tenants.told.clear()
    await asyncio.gather(*(reader.load([key.id]) for _ in range(20)))
    assert len(tenants.told) == 1 and reader.known(key.id) == key


async def test_what_a_handler_returns_to_be_stored_is_stored(tenants: Tenants) -> None:
    store = KeysInMemory()
    key = await keyring_of(tenants, store).ensure(THREAD)
    before = store.kept[THREAD].wrapped
    tenants.renews = True
    assert await keyring_of(tenants, store).ensure(THREAD) == key
    assert store.kept[THREAD].wrapped == RENEWED + before
    tenants.renews = False
    assert await keyring_of(tenants, store).ensure(THREAD) == key


async def test_keys_from_before_there_were_handlers_are_read(tenants: Tenants) -> None:
    store = KeysInMemory()
    key = await Keyring(WithInstallationKey(MASTER), store).ensure(THREAD)
    handlers = EncryptionHandlers(tenants.encryption)
    assert await Keyring(WithHandlers(handlers, WithInstallationKey(MASTER)), store).ensure(THREAD) == key
    assert tenants.told == []


async def test_a_key_of_another_owner_is_not_taken(tenants: Tenants) -> None:
    store = KeysInMemory()
    await keyring_of(tenants, store).ensure(THREAD)
    store.kept["other"] = replace(store.kept.pop(THREAD), owner="other")
    with pytest.raises(HandlerFailed, match="something else than was encrypted"):
        await keyring_of(tenants, store).ensure("other")


async def test_a_failing_handler_is_not_asked_with_every_read(tenants: Tenants) -> None:
    now = 0.0
    store = KeysInMemory()
    key = await keyring_of(tenants, store).ensure(THREAD)
    reader = keyring_of(tenants, store, clock=lambda: now)
    tenants.raises = True
    await reader.load([key.id])  # rows of others are read with it: it raises nothing
    assert reader.known(key.id) is None and reader.missing([key.id]) == set()
    with pytest.raises(HandlerFailed, match=r"decrypt\.blob raised RuntimeError"):
        await reader.ensure(THREAD)
    tenants.raises, now = False, FAILED_SECONDS + 1
    assert reader.missing([key.id]) == {key.id}
    await reader.load([key.id])
    assert reader.known(key.id) == key


async def test_a_handler_that_hangs_is_given_up_and_others_go_on(tenants: Tenants) -> None:
    store = KeysInMemory()
    keyring = keyring_of(tenants, store, seconds=0.2)
    tenants.hangs = True
    with pytest.raises(HandlerFailed, match=r"encrypt\.blob took longer than 0\.2 s"):
        await keyring.ensure(THREAD)
    tenants.hangs = False
    assert await keyring.ensure(THREAD)


async def test_one_that_hangs_again_and_again_is_not_waited_for_in_that_context(tenants: Tenants) -> None:
    now = 0.0
    handlers = EncryptionHandlers(tenants.encryption, seconds=0.1, clock=lambda: now)
    tenants.hangs = True
    for _ in range(5):
        with pytest.raises(HandlerFailed):
            await handlers.encrypt_blob("thread", "data_key", {"tenant": "ann"}, b"x")
    assert len(tenants.told) == 3  # the other two failed at once
    tenants.hangs = False
    assert await handlers.encrypt_blob("thread", "data_key", {"tenant": "bob"}, b"xy") == b"yx"
    with pytest.raises(HandlerFailed, match="has not responded 3 times"):
        await handlers.encrypt_blob("thread", "data_key", {"tenant": "ann"}, b"xy")
    now = 31.0
    assert await handlers.encrypt_blob("thread", "data_key", {"tenant": "ann"}, b"xy") == b"yx"


async def test_a_handler_that_blocks_blocks_nothing_but_its_call(tenants: Tenants) -> None:
    keyring = keyring_of(tenants, seconds=0.2)
    tenants.blocks = True
    begun = time.monotonic()
    with pytest.raises(HandlerFailed):
        await keyring.ensure(THREAD)
    assert time.monotonic() - begun < 1  # the loop was free to look at the clock
    tenants.blocks = False
    while True:  # until the blocked loop is left behind
        try:
            assert await keyring.ensure("other")
            break
        except HandlerFailed:
            assert time.monotonic() - begun < 2.4, "the handler has let go by itself"


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [((), "no handlers"), (("encrypt.blob",), "no decrypt.blob"), (("decrypt.json",), "no encrypt.json")],
)
def test_an_object_without_pairs_of_handlers_is_refused(kinds: tuple[str, ...], sentence: str) -> None:
    encryption = Encryption()

    async def handler(ctx: Any, data: Any) -> Any:
        return data

    for kind in kinds:
        side, what = kind.split(".")
        getattr(getattr(encryption, side), what)(handler)
    with pytest.raises(ValueError, match=sentence):
        EncryptionHandlers(encryption)


# --- fields -----------------------------------------------------------------------------------------------------------


async def opened(keyring: Keyring, value: Any, *, known: Any = None) -> Any:
    value = deepcopy(value)
    await open_fields(value, known or keyring.known, keyring.handlers)
    return value


BY_NAME: list[Callable[[Tenants], Keyring]] = [
    lambda tenants: keyring_of(tenants),
    lambda tenants: Keyring(WithInstallationKey(MASTER), KeysInMemory(), field_names=["secret"]),
]


@pytest.mark.parametrize("made", BY_NAME, ids=["handlers", "names"])
async def test_fields_are_encrypted_where_they_stand_and_the_others_stay(
    tenants: Tenants, made: Callable[[Tenants], Keyring]
) -> None:
    keyring = made(tenants)
    metadata = {"a": 1, "secret": SECRET, "in": {"secret": SECRET, "b": [2]}, "thread_id": "t"}
    sealed = await FieldSealer(keyring).sealed(UpdateThread(thread_id=THREAD, metadata=metadata))
    assert isinstance(sealed, UpdateThread)
    shown = sealed.metadata
    assert SECRET not in str(shown) and is_field_token(shown["secret"]) and is_field_token(shown["in"]["secret"])
    assert (shown["a"], shown["in"]["b"], shown["thread_id"]) == (1, [2], "t")
    assert field_names(shown) == {"secret", "in"} and len(field_key_ids(shown)) == 1
    assert await opened(keyring, shown) == metadata
    assert await opened(keyring, shown, known=lambda _: None) == shown


async def test_a_large_value_is_looked_through_too(tenants: Tenants) -> None:
    keyring = Keyring(WithInstallationKey(MASTER), KeysInMemory(), field_names=["secret"])
    value = {"rows": [{"n": n, "secret": f"{SECRET} {n}"} for n in range(9000)]}
    sealed = await FieldSealer(keyring).sealed(WriteItems(namespace=["n"], ops=[{"key": "k", "value": value}]))
    assert isinstance(sealed, WriteItems) and SECRET not in str(sealed.ops)
    assert await opened(keyring, sealed.ops[0]["value"]) == value


async def test_a_command_without_such_fields_needs_no_key(tenants: Tenants) -> None:
    store = KeysInMemory()
    await FieldSealer(keyring_of(tenants, store)).sealed(CreateThread(thread_id=THREAD, metadata={"a": 1}))
    assert store.kept == {}


async def test_fields_of_several_contexts_are_decrypted_each_in_its_own(tenants: Tenants) -> None:
    keyring = keyring_of(tenants)
    key = await keyring.ensure(THREAD)
    value = {
        "secret": field_token(key, f"x{SECRET[::-1]}", ["thread", "metadata", {"tenant": "ann"}]),
        "other": field_token(key, 7, ["run", "metadata", {"tenant": "bob"}]), "plain": 1,
    }  # fmt: skip
    tenants.told.clear()
    assert await opened(keyring, value) == {"secret": SECRET, "other": 7, "plain": 1}
    assert sorted(tenants.told, key=str) == [
        ("run", "metadata", {"tenant": "bob"}), ("thread", "metadata", {"tenant": "ann"}),
    ]  # fmt: skip


async def test_a_field_that_a_handler_does_not_decrypt_stays_and_the_others_are_shown(tenants: Tenants) -> None:
    keyring = keyring_of(tenants)
    key = await keyring.ensure(THREAD)
    token = field_token(key, "x", ["thread", "metadata", {}])
    tenants.raises = True
    assert await opened(keyring, {"secret": token, "a": field_token(key, 1)}) == {"secret": token, "a": 1}


async def test_tokens_of_content_and_of_fields_are_not_taken_for_each_other() -> None:
    key = DataKey.new(THREAD)
    stolen = "~encj1:" + key.token(SECRET).removeprefix("~enc1:")
    assert has_field_token(orjson.dumps({"a": stolen}))
    value = {"a": stolen}
    await open_fields(value, lambda _: key, None)
    assert value == {"a": stolen}


async def test_handlers_may_not_add_or_remove_keys() -> None:
    encryption = Encryption()

    @encryption.encrypt.json
    async def one_for_all(ctx: Any, data: dict[str, Any]) -> dict[str, Any]:
        return {"__encrypted__": "x"}

    @encryption.decrypt.json
    async def back(ctx: Any, data: dict[str, Any]) -> dict[str, Any]:
        return data

    keyring = Keyring(WithInstallationKey(MASTER), KeysInMemory(), handlers=EncryptionHandlers(encryption))
    with pytest.raises(HandlerFailed, match="added or removed keys"):
        await FieldSealer(keyring).sealed(CreateThread(thread_id=THREAD, metadata={"a": 1}))


async def test_what_authorization_filters_by_stays_readable(tenants: Tenants) -> None:
    PROTECTED.set(frozenset({"secret"}))
    keyring = Keyring(WithInstallationKey(MASTER), KeysInMemory(), field_names=["secret"])
    with pytest.raises(HandlerFailed, match=r"filters by metadata\.secret"):
        await FieldSealer(keyring).sealed(CreateThread(thread_id=THREAD, metadata={"secret": SECRET}))
    PROTECTED.set(frozenset())


async def test_a_vector_of_a_text_that_is_encrypted_is_not_stored() -> None:
    keyring = Keyring(WithInstallationKey(MASTER), KeysInMemory(), field_names=["secret"])
    paths = ["title", "secret", "note.secret", "note.text", "note", "tags.0", "$", "secret.inner"]
    value = {"title": "t", "secret": SECRET, "note": {"secret": SECRET, "text": "n"}, "tags": ["a", "b"]}
    op = {"key": "k", "value": orjson.Fragment(orjson.dumps(value)), "vectors": [[path, "AAAA"] for path in paths]}
    sealed = await FieldSealer(keyring).sealed(WriteItems(namespace=["n"], ops=[op, {"key": "l", "delete": True}]))
    assert isinstance(sealed, WriteItems)
    assert [path for path, _ in sealed.ops[0]["vectors"]] == ["title", "note.text", "tags.0"]
    assert await opened(keyring, sealed.ops[0]["value"]) == value and sealed.ops[1] == {"key": "l", "delete": True}


async def test_every_object_that_clients_give_is_looked_at(tenants: Tenants) -> None:
    keyring = keyring_of(tenants)
    given = {"secret": SECRET}
    commands: list[Command] = [
        CreateRun(
            thread_id=THREAD, run_id="r", graph_id="g", run={"metadata": given, "kwargs": {}}, create_thread=given,
            thread_config={"metadata": given},
        ),
        CreateAssistant(assistant_id="a", graph_id="g", metadata=given, config={"configurable": given}, context=given),
        CreateThread(thread_id=THREAD, metadata=given, config={"metadata": given}),
    ]  # fmt: skip
    for command in commands:
        assert SECRET not in str(await FieldSealer(keyring).sealed(command)), command.type
