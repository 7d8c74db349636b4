"""An import holds its invariant on every seed; without one of its guards it does not. See the package's docstring,
I19."""

from __future__ import annotations

import os
from itertools import islice

import pytest

from tests.simulation import imports
from tests.simulation.imports import ImportOutcome
from tests.simulation.scenario import STEPS, Scenario
from tests.simulation.simulated_world import SimulatedWorld

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1000")) // 10
CHUNK = 20
CONTROLS = 24

pytestmark = pytest.mark.timeout(600)  # as in test_simulation


def exporting(seed: int) -> SimulatedWorld:
    """A world with runs, webhooks and crons in flight. What can't be stored there is a matter of other tests."""
    world = SimulatedWorld(seed)
    world.poisoner = None
    scenario = Scenario(world)
    for _ in range(STEPS):
        scenario.step()
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_an_imported_history_is_what_it_was_and_nothing_follows_from_it(first: int) -> None:
    outcomes = []
    for seed in range(first, min(first + CHUNK, SEEDS)):
        try:
            outcomes.append(imports.run(seed, exporting(seed)))
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")
    if len(outcomes) == CHUNK:
        _something_happened(outcomes)


def _something_happened(outcomes: list[ImportOutcome]) -> None:
    assert sum(outcome.records for outcome in outcomes) > 20 * CHUNK
    assert sum(outcome.restarts for outcome in outcomes) > CHUNK
    assert sum(outcome.ended for outcome in outcomes) > CHUNK // 2
    assert sum(outcome.went_on for outcome in outcomes) > CHUNK
    assert sum(outcome.refused for outcome in outcomes) > 2


def test_if_something_followed_from_imported_events_runs_would_be_executed_again() -> None:
    violated = _violated_of_first(more_than=CONTROLS // 4, silent=False)
    assert violated > CONTROLS // 4, f"only {violated} of {CONTROLS} seeds fail with effects"


def test_without_the_record_before_an_append_that_was_lost_in_part_leaves_a_gap() -> None:
    violated = _violated_of_first(more_than=CONTROLS // 10, chained=False)
    assert violated > CONTROLS // 10, f"only {violated} of {CONTROLS} seeds fail without the predecessor"


def _violated_of_first(*, more_than: int, **without: bool) -> int:
    """How many of the first seeds violate it; once it is one more than `more_than`, the others are not run."""
    violating = (1 for seed in range(CONTROLS) if _violates(seed, **without))
    return sum(islice(violating, more_than + 1))


def _violates(seed: int, *, silent: bool = True, chained: bool = True) -> bool:
    try:
        imports.run(seed, exporting(seed), silent=silent, chained=chained)
    except (AssertionError, KeyError):
        return True
    return False
