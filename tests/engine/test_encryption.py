"""Encryption: what can be read with which key, what of a command is content, and what a process knows of keys."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from typing import Any

import orjson
import pytest

from threadlog.engine.domain.commands import CreateRun, ImportCheckpoints, UpdateState
from threadlog.engine.domain.text import data_to_text
from threadlog.engine.domain.thread import ERROR_LIMIT, shortened
from threadlog.engine.encryption import cipher
from threadlog.engine.encryption.cipher import DataKey, MasterKeys, WrongKey
from threadlog.engine.encryption.content import reserved, sealed, sealed_item, sealed_outcome
from threadlog.engine.encryption.keys import KEPT_SECONDS, Keyring, WrappedKey
from threadlog.engine.encryption.wrapping import WithInstallationKey
from threadlog.engine.gateway.sealing import SealingGateway
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.log.opening import OpeningLog
from threadlog.engine.log.port import Append, Topic
from threadlog.engine.log.records import CHECKPOINT, Frames
from threadlog.engine.log.unreadable import frames_in

THREAD, OTHER, RUN = "0198c0de-0000-7000-8000-000000000001", "0198c0de-0000-7000-8000-000000000002", "r"
MASTER = MasterKeys("0123456789abcdef")
WRAPPER = WithInstallationKey(MASTER)
SECRET = "the canary sings"


def known(*keys: DataKey) -> Any:
    return {key.id: key for key in keys}.get


class KeysInMemory:
    """The port's adapter for tests: what it holds can be destroyed."""

    def __init__(self) -> None:
        self.kept: dict[str, WrappedKey] = {}

    async def current(self, owners: Collection[str]) -> list[WrappedKey]:
        return [self.kept[owner] for owner in owners if owner in self.kept]

    async def by_id(self, ids: Collection[bytes]) -> list[WrappedKey]:
        return [key for key in self.kept.values() if key.id in ids]

    async def add(self, key: WrappedKey, *, of_thread: bool) -> WrappedKey | None:
        return None if of_thread else self.kept.setdefault(key.owner, key)

    async def replace(self, key: WrappedKey, new: WrappedKey) -> None:
        if self.kept.get(key.owner) == key:
            self.kept[key.owner] = new


# --- the cipher -------------------------------------------------------------------------------------------------------


def test_bytes_and_json_come_back_with_their_key() -> None:
    key = DataKey.new(THREAD)
    assert cipher.open_bytes(key.seal(b"\x00data"), known(key)) == b"\x00data"
    text = orjson.dumps({"plain": 1, "hidden": key.token({"a": [SECRET]})}).decode()
    assert (
        SECRET not in text and cipher.open_text(text, known(key)) == '{"plain":1,"hidden":{"a":["the canary sings"]}}'
    )


def test_the_same_value_is_never_encrypted_to_the_same_bytes() -> None:
    key = DataKey.new(THREAD)
    assert key.seal(b"x") != key.seal(b"x") and key.token(1) != key.token(1)


def test_without_the_key_nothing_is_read() -> None:
    key, other = DataKey.new(THREAD), DataKey.new(OTHER)
    token = key.token(SECRET)
    assert cipher.open_text(f'"{token}"', known(other)) == f'"{token}"'
    assert cipher.open_bytes(key.seal(b"x"), known(other)) is None
    impostor = DataKey.of(OTHER, key.id, other.secret)
    with pytest.raises(WrongKey):
        cipher.open_bytes(key.seal(b"x"), known(impostor))


def test_what_was_changed_is_not_taken_for_content() -> None:
    key = DataKey.new(THREAD)
    stored = bytearray(key.seal(b"some data"))
    stored[-1] ^= 1
    with pytest.raises(WrongKey):
        cipher.open_bytes(bytes(stored), known(key))


def test_what_was_stored_before_is_read_as_it_is() -> None:
    assert cipher.open_bytes(b"plain", known()) == b"plain"
    assert cipher.open_text('{"a":"~enc1:no token"}', known()) == '{"a":"~enc1:no token"}'


def test_names_of_fields_are_never_taken_for_tokens() -> None:
    key = DataKey.new(THREAD)
    text = orjson.dumps({key.token(SECRET): 1}).decode()
    assert cipher.open_text(text, known(key)) == text


def test_a_data_key_is_of_use_with_the_installations_key_and_for_its_owner_only() -> None:
    key = DataKey.new(THREAD)
    wrapped = MASTER.wrap(key)
    assert MASTER.unwrap(THREAD, key.id, wrapped, MASTER.name).secret == key.secret
    with pytest.raises(WrongKey):
        MASTER.unwrap(OTHER, key.id, wrapped, MASTER.name)
    with pytest.raises(WrongKey, match="another LANGGRAPH_AES_KEY"):
        MasterKeys("fedcba9876543210").unwrap(THREAD, key.id, wrapped, MASTER.name)


def test_an_old_key_still_unwraps() -> None:
    key = DataKey.new(THREAD)
    rotated = MasterKeys("x" * 32, ["0123456789abcdef"])
    assert rotated.unwrap(THREAD, key.id, MASTER.wrap(key), MASTER.name).secret == key.secret
    assert rotated.name != MASTER.name


@pytest.mark.parametrize("size", [0, 15, 17, 33])
def test_a_key_has_one_of_the_sizes_of_aes(size: int) -> None:
    with pytest.raises(ValueError, match="16, 24 or 32 bytes"):
        MasterKeys("k" * size)


# --- content ----------------------------------------------------------------------------------------------------------


def run(**kwargs: Any) -> CreateRun:
    return CreateRun(
        thread_id=THREAD,
        run_id=RUN,
        graph_id="agent",
        run={"metadata": {"m": 1}, "kwargs": {"webhook": None, **kwargs}},
    )


def test_of_a_run_all_that_its_graph_reads_is_encrypted_and_all_that_the_engine_reads_is_not() -> None:
    key = DataKey.new(THREAD)
    command = run(
        input={"q": SECRET}, context={"c": SECRET}, config={"configurable": {"s": SECRET}}, command=None, resumable=True
    )
    encrypted = sealed(command, key)
    assert isinstance(encrypted, CreateRun)
    assert SECRET not in str(encrypted) and encrypted.run["metadata"] == {"m": 1}
    kwargs = encrypted.run["kwargs"]
    assert kwargs["resumable"] is True and kwargs["command"] is None and cipher.is_token(kwargs["input"])
    assert orjson.loads(cipher.open_text(orjson.dumps(kwargs).decode(), known(key))) == command.run["kwargs"]


def test_so_are_the_values_of_state_updates_and_of_copies() -> None:
    key = DataKey.new(THREAD)
    update = {"values": {"x": SECRET}, "as_node": "n", "command": {"update": SECRET}}
    steps = sealed(
        UpdateState(thread_id=THREAD, job_id="j", graph_id="g", supersteps=[{"updates": [update]}]), key
    ).supersteps  # type: ignore[attr-defined]
    assert SECRET not in str(steps) and steps[0]["updates"][0]["as_node"] == "n"
    copied = sealed(ImportCheckpoints(thread_id=THREAD, items=[checkpoint()]), key)
    assert SECRET not in str(copied)


def checkpoint() -> dict[str, Any]:
    inline = {"t": "msgpack", "b": b64encode(SECRET.encode()).decode()}
    return {
        "kind": "checkpoint", "checkpoint_id": "c",
        "channels": {"a": inline, "b": {"d": {"f": inline}}, "c": {"h": "x"}},
        "blobs": [{"h": "x", "t": "msgpack", "d": data_to_text(SECRET.encode())}, {"h": "y", "t": "t", "at": 7}],
    }  # fmt: skip


def test_values_of_a_report_are_encrypted_wherever_they_stand() -> None:
    key = DataKey.new(THREAD)
    item = sealed_item(checkpoint(), key)
    shown = orjson.dumps(item)
    assert SECRET.encode() not in shown and b64encode(SECRET.encode()) not in shown
    opened = orjson.loads(cipher.open_text(shown.decode(), known(key)))
    assert opened["channels"] == checkpoint()["channels"] and item["blobs"][1] == checkpoint()["blobs"][1]


def test_an_outcome_keeps_what_the_decider_reads() -> None:
    key = DataKey.new(THREAD)
    outcome = {
        "status": "error", "next": ["n"], "error": {"error": "ValueError", "message": SECRET * ERROR_LIMIT},
        "interrupts": {"task": [{"id": "i", "value": SECRET}]},
    }  # fmt: skip
    encrypted = sealed_outcome(outcome, key)
    assert encrypted["error"]["error"] == "ValueError" and encrypted["interrupts"]["task"][0]["id"] == "i"
    assert SECRET not in str(encrypted) and shortened(encrypted["error"]) == encrypted["error"]
    opened = orjson.loads(cipher.open_text(orjson.dumps(encrypted).decode(), known(key)))
    assert opened["error"]["message"].startswith(SECRET) and len(opened["error"]["message"]) == ERROR_LIMIT + 1


def test_nobody_can_send_a_token() -> None:
    stolen = DataKey.new(OTHER).token(SECRET)
    assert reserved(run(interrupt_before=[stolen])) is not None
    assert reserved(run(input={"q": stolen})) is None  # encrypted again, and shown as it was sent


async def test_the_gateway_refuses_one() -> None:
    class Nowhere:
        async def submit(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("it was sent")

    keyring = Keyring(WRAPPER, KeysInMemory())
    decided = await SealingGateway(Nowhere(), keyring).submit(run(interrupt_before=[DataKey.new(OTHER).token(1)]))
    assert decided.rejection is not None and decided.rejection.code == "invalid"


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_thread_has_one_key_in_all_processes_until_it_is_destroyed() -> None:
    store = KeysInMemory()
    one, two = Keyring(WRAPPER, store), Keyring(WRAPPER, store)
    first = await one.ensure(THREAD)
    assert first is not None and await two.ensure(THREAD) == first
    store.kept.clear()
    again = await one.ensure(THREAD)
    assert again is not None and again.id != first.id
    assert await one.of_threads([THREAD, OTHER]) == {THREAD: again}


async def test_a_key_that_an_old_key_has_encrypted_is_encrypted_anew_when_it_is_read() -> None:
    store = KeysInMemory()
    key = await Keyring(WRAPPER, store).ensure(THREAD)
    new = WithInstallationKey(MasterKeys("x" * 32, ["0123456789abcdef"]))
    assert await Keyring(new, store).ensure(THREAD) == key
    assert store.kept[THREAD].wrapped_by == MasterKeys("x" * 32).name
    assert await Keyring(WithInstallationKey(MasterKeys("x" * 32)), store).ensure(THREAD) == key


async def test_a_destroyed_key_is_forgotten() -> None:
    now = 0.0
    store = KeysInMemory()
    keyring = Keyring(WRAPPER, store, clock=lambda: now)
    key = await keyring.ensure(THREAD)
    assert key is not None and not keyring.missing([key.id])
    store.kept.clear()
    now = KEPT_SECONDS + 1
    assert keyring.missing([key.id]) == {key.id}
    await keyring.load([key.id])
    assert keyring.known(key.id) is None


async def test_frames_come_decrypted_and_those_of_a_destroyed_key_are_null() -> None:
    store = KeysInMemory()
    keyring = Keyring(WRAPPER, store)
    key = await keyring.ensure(THREAD)
    assert key is not None
    log = MemoryLog(1)
    frames = [(b"values", key.seal_json(b'{"a":1}')), (CHECKPOINT, b'"c"')]
    value = Frames(RUN, THREAD, 1, 0, frames).encode()
    await log.append([Append(Topic.STREAM, 0, THREAD, value)])
    (read,) = await OpeningLog(log, keyring).read(Topic.STREAM, 0, 0)
    assert frames_in(read) == Frames(RUN, THREAD, 1, 0, [(b"values", b'{"a":1}'), (CHECKPOINT, b'"c"')])
    store.kept.clear()
    (read,) = await OpeningLog(log, Keyring(WRAPPER, store)).read(Topic.STREAM, 0, 0)
    lost = frames_in(read)
    assert lost is not None and lost.frames[0] == (b"values", b"null")
