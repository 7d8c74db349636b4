"""Which statements of the HTTP contract the tests show: `@pytest.mark.contract(106)`, and a summary of them.

The statements are the numbered ones of docs/reference/http-api.md, §12 and §13. The mark may stand on any test, with
several numbers if it shows several. A session that ran every module of tests/contract ends with a list of what is
covered and what is not; the processes of pytest-xdist report to their controller, which writes it.

Registered by tests/conftest.py. tests/test_contract_statements.py fails if a statement is neither covered nor listed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "http-api.md"
FOLDER = Path(__file__).parent / "contract"

# What the server does not do yet, by feature. A statement leaves this list with the test that shows it.
NOT_BUILT: dict[str, Collection[int]] = {}
REPLACED = {29: 180}
"""Statements of §12 that §13 corrects, and by which."""

_PROPERTY = "contract statements"


@cache
def statements() -> frozenset[int]:
    """The numbers of the statements in §12 and §13."""
    text = DOCUMENT.read_text()
    sections = text[text.index("\n## 12. ") :]
    return frozenset(int(number) for number in re.findall(r"^(\d+)\. ", sections, re.MULTILINE))


def statements_of(item: pytest.Item) -> set[int]:
    """The statements that a test is marked with. Raises `pytest.UsageError` if the contract has no such statement."""
    numbers = {number for mark in item.iter_markers("contract") for number in mark.args}
    if unknown := numbers - statements():
        raise pytest.UsageError(
            f"{item.nodeid} is marked with {sorted(unknown)}: {DOCUMENT.name} has no such statement"
        )
    return numbers


def ranges(numbers: Collection[int]) -> str:
    """`{1, 2, 3, 7}` as "1-3, 7"."""

    def pieces() -> Iterator[str]:
        rest = sorted(numbers)
        while rest:
            length = next((i for i, number in enumerate(rest) if number != rest[0] + i), len(rest))
            yield f"{rest[0]}" if length == 1 else f"{rest[0]}-{rest[length - 1]}"
            rest = rest[length:]

    return ", ".join(pieces()) or "none"


class Summary:
    """Collects reports of tests, and writes which statements they show."""

    def __init__(self) -> None:
        self.passed: set[int] = set()
        self.failed: set[int] = set()
        self.modules: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path, _, _ = report.nodeid.partition("::")
        if Path(path).parent.name == FOLDER.name:
            self.modules.add(Path(path).name)
        numbers = {int(str(number)) for name, number in report.user_properties if name == _PROPERTY}
        if report.failed:
            self.failed |= numbers
        elif report.passed and report.when == "call":
            self.passed |= numbers

    def is_complete(self) -> bool:
        """Whether tests of every module of tests/contract have been run."""
        return self.modules >= {path.name for path in FOLDER.glob("test_*.py")}

    def lines(self) -> list[str]:
        not_built = {number for numbers in NOT_BUILT.values() for number in numbers}
        covered = self.passed - self.failed
        rest = statements() - self.passed - self.failed - not_built - REPLACED.keys()
        return [
            f"{len(covered)} of {len(statements())} covered: {ranges(covered)}",
            *([f"failed: {ranges(self.failed)}"] if self.failed else []),
            *([f"not shown by a test of this session: {ranges(rest)}"] if rest else []),
            *(f"not built yet, {feature}: {ranges(numbers)}" for feature, numbers in NOT_BUILT.items()),
            *(f"corrected: {number} by {other}" for number, other in REPLACED.items()),
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.is_complete():
            terminalreporter.section("statements of the HTTP contract")
            for line in self.lines():
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contract(number, …): shows these statements of docs/reference/http-api.md")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Summary(), "threadlog-contract-statements")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties.extend((_PROPERTY, number) for number in sorted(statements_of(item)))
