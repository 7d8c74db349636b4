"""Executors with encryption: what they say is encrypted, and a run whose content they can't read is not executed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from tests.executor.executor_harness import ExecutorHarness
from threadlog.engine.encryption.cipher import DataKey, MasterKeys, open_text
from threadlog.engine.encryption.key_table import PostgresKeys
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.encryption.wrapping import WithInstallationKey

CANARY = "canary-77"
MASTER = MasterKeys("0123456789abcdef")
WRAPPER = WithInstallationKey(MASTER)


@pytest.fixture
async def keyring(harness: ExecutorHarness) -> AsyncIterator[Keyring]:
    async with asyncpg.create_pool(harness.database, min_size=1, max_size=1) as pool:
        yield Keyring(WRAPPER, PostgresKeys(pool))


async def test_a_run_from_before_encryption_is_executed_and_what_it_leaves_is_encrypted(
    harness: ExecutorHarness, serving: Any, keyring: Keyring
) -> None:
    await serving("hitl", keyring=keyring)
    run_id = await harness.enqueue("hitl", {"items": [CANARY]})
    outcome = await harness.outcome(run_id)
    assert outcome["status"] == "success" and outcome["interrupts"]
    reports = orjson.dumps(await harness.reports(run_id))
    frames = orjson.dumps(await harness.frames(run_id))
    assert CANARY.encode() not in reports + frames and b"Y2FuYXJ5" not in reports
    assert CANARY in open_text(frames.decode(), keyring.known)


async def test_a_run_whose_key_is_gone_fails_and_says_so(
    harness: ExecutorHarness, serving: Any, keyring: Keyring
) -> None:
    await serving("hitl", keyring=keyring)
    token = DataKey.new("a thread").token({"items": [CANARY]})
    run_id = await harness.enqueue("hitl", token)
    outcome = await harness.outcome(run_id)
    assert (outcome["status"], outcome["error"]["error"]) == ("error", "ContentUnreadable")
    assert await harness.items(run_id) == []


async def test_so_does_one_that_an_executor_without_the_key_has_claimed(harness: ExecutorHarness, serving: Any) -> None:
    await serving("hitl")
    run_id = await harness.enqueue("hitl", DataKey.new("a thread").token({"items": [CANARY]}))
    outcome = await harness.outcome(run_id)
    assert (outcome["status"], outcome["error"]["error"]) == ("error", "ContentUnreadable")
    assert "LANGGRAPH_AES_KEY" in outcome["error"]["message"]
