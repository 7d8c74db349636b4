"""Each test has one tier, and only a test of the tier `server` starts processes."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.tiers import TIERS


def tiers_of(request: pytest.FixtureRequest) -> set[str]:
    return {mark.name for mark in request.node.iter_markers()} & TIERS.keys()


def test_a_test_that_needs_nothing_is_a_unit_test(request: pytest.FixtureRequest) -> None:
    assert tiers_of(request) == {"unit"}


def test_a_test_with_a_database_is_of_the_tier_db(request: pytest.FixtureRequest, database: str) -> None:
    assert tiers_of(request) == {"db"}


@pytest.mark.server
def test_a_mark_decides(request: pytest.FixtureRequest) -> None:
    assert tiers_of(request) == {"server"}


def test_every_test_of_the_session_has_exactly_one_tier(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        assert len({mark.name for mark in item.iter_markers()} & TIERS.keys()) == 1, item.nodeid


def test_a_unit_test_starts_no_process() -> None:
    with pytest.raises(PermissionError, match=r"test_a_unit_test_starts_no_process .* mark it pytest\.mark\.server"):
        subprocess.run(["true"])
    with pytest.raises(PermissionError, match=r"os\.fork"):
        os.fork()


@pytest.mark.server
def test_a_test_of_the_tier_server_starts_processes() -> None:
    assert subprocess.run(["true"]).returncode == 0
