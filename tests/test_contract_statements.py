"""Every statement of the contract is shown by a test, or listed with the reason why not."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract_statements import FOLDER, NOT_BUILT, REPLACED, Summary, ranges, statements

TESTS = Path(__file__).parent


def marked() -> Iterator[int]:
    """The numbers in all marks of the source, whether or not a test is selected."""
    for path in TESTS.rglob("test_*.py"):
        source = path.read_bytes()
        if b"pytest.mark.contract" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.contract":
                yield from (ast.literal_eval(argument) for argument in node.args)


def test_a_statement_is_covered_or_said_not_to_be() -> None:
    listed = Counter([number for numbers in NOT_BUILT.values() for number in numbers] + list(REPLACED))
    assert not [number for number, times in listed.items() if times > 1]
    covered = set(marked())
    assert not covered & listed.keys(), "covered: take them out of NOT_BUILT or REPLACED"
    assert statements() - covered - listed.keys() == set(), "neither covered by a test nor listed"
    assert statements() == set(range(1, max(statements()) + 1))


def test_numbers_are_written_as_ranges() -> None:
    assert ranges({7, 1, 2, 3, 9, 10}) == "1-3, 7, 9-10"
    assert ranges(set()) == "none"


def report(module: str, *numbers: int, outcome: str = "passed", when: str = "call") -> pytest.TestReport:
    properties = [("contract statements", number) for number in numbers]
    path = f"tests/contract/{module}"
    return pytest.TestReport(
        f"{path}::test",
        (path, 0, "test"),
        {},
        outcome,
        None,
        when,
        user_properties=properties,  # type: ignore[arg-type]
    )


def test_the_summary_is_written_when_every_module_of_the_folder_was_run() -> None:
    summary = Summary()
    modules = sorted(path.name for path in FOLDER.glob("test_*.py"))
    for module in modules[1:]:
        summary.pytest_runtest_logreport(report(module))
    assert not summary.is_complete()
    summary.pytest_runtest_logreport(report(modules[0]))
    assert summary.is_complete()


def test_a_statement_is_covered_if_its_tests_passed_and_none_failed() -> None:
    summary = Summary()
    for one in (
        report("test_a.py", 1, 2),
        report("test_a.py", 2, outcome="failed"),
        report("test_a.py", 3, outcome="failed", when="setup"),
        report("test_a.py", 4, outcome="skipped", when="setup"),
        report("test_a.py", 4, when="teardown"),
    ):
        summary.pytest_runtest_logreport(one)
    covered, failed, missing, *_ = summary.lines()
    assert covered == f"1 of {len(statements())} covered: 1"
    assert failed == "failed: 2-3"
    assert missing.startswith("not shown by a test of this session: 4-")
