"""LangGraph's own conformance suite for checkpointers, all of it."""

from collections.abc import AsyncGenerator

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from tests.checkpointer.checkpointer_harness import CheckpointerHarness
from threadlog.engine.executor.checkpointer.standalone import StandaloneSaver


@pytest.mark.parametrize("capability", [c.value for c in Capability])
async def test_every_capability_is_there_and_conforms(harness: CheckpointerHarness, capability: str) -> None:
    @checkpointer_test(name="threadlog")
    async def savers() -> AsyncGenerator[BaseCheckpointSaver, None]:
        yield StandaloneSaver(pool=harness.pool, log=harness.log, gateway=harness)

    report = await validate(savers, capabilities={capability})
    result = report.results[capability]
    assert result.detected
    assert result.passed, result.failures
    assert result.tests_passed > 0
