"""The acceptance rule, record by record."""

from __future__ import annotations

import pytest

from threadlog.engine.log.acceptance import Acceptance
from threadlog.engine.log.records import EventRecord


def start(epoch: int) -> EventRecord:
    return EventRecord(epoch=epoch, cmd_off=-1, cmd_id="", key="", at="", start=True)


def record(epoch: int, cmd_off: int, after: int | None = None) -> EventRecord:
    return EventRecord(epoch=epoch, cmd_off=cmd_off, cmd_id="c", key="k", at="", after=after)


@pytest.mark.parametrize(
    ("log", "accepted"),
    [
        ([start(1), record(1, 0, -1), record(1, 1, 0)], [1, 2]),
        ([start(1), record(1, 0, -1), record(1, 0, -1)], [1]),  # a duplicate
        ([start(1), start(2), record(1, 0, -1), record(2, 0, -1)], [3]),  # a zombie
        ([start(1), record(1, 0, -1), start(2), record(1, 1, 0), record(2, 1, 0)], [1, 4]),
        ([start(2), start(1), record(1, 0, -1), record(2, 0, -1)], [3]),  # a late announcement announces nothing
        (
            [start(1), record(1, 1, 0), record(1, 0, -1), record(1, 1, 0)],
            [2, 3],
        ),  # the orphan counts once it is in order
        ([start(1), record(1, 0, -1), record(1, 2, 1)], [1]),  # command 1's record was lost
        ([start(1), record(1, 4, -1), record(1, 9, 4)], [1, 2]),  # offsets have gaps
        ([start(1), record(1, 0), record(1, 1)], [1, 2]),  # without a predecessor, order alone counts
    ],
)
def test_which_records_count(log: list[EventRecord], accepted: list[int]) -> None:
    rule = Acceptance()
    assert [i for i, r in enumerate(log) if rule.accepts(r)] == accepted


def test_a_reader_resumes_where_it_was() -> None:
    rule = Acceptance(epoch=3, cmd_off=7)
    assert not rule.accepts(record(2, 8, 7)) and not rule.accepts(record(3, 7, 6)) and not rule.accepts(record(3, 9, 8))
    assert rule.accepts(record(3, 8, 7))
    assert (rule.epoch, rule.cmd_off) == (3, 8)


def test_a_reader_that_starts_where_retention_left_off_takes_the_first_record_as_it_comes() -> None:
    rule = Acceptance(cmd_off=None)
    assert rule.accepts(record(4, 100, 99))
    assert not rule.accepts(record(3, 101, 100)), "its epoch is told by the records, too"
    assert rule.accepts(record(4, 101, 100))


def test_a_reader_that_starts_with_records_that_do_not_count_finds_out_with_the_next_term() -> None:
    zombie, orphan = record(3, 90, 80), record(4, 104, 102)
    rule = Acceptance(cmd_off=None)
    assert rule.accepts(zombie), "as it comes"
    assert rule.accepts(record(4, 100, 99)) and not rule.accepts(record(3, 101, 90))

    rule = Acceptance(cmd_off=None)
    assert rule.accepts(orphan), "as it comes"
    assert not rule.accepts(start(5))
    assert rule.accepts(record(5, 101, 100)) and rule.accepts(record(5, 103, 101))
    assert not rule.accepts(record(5, 106, 105)) and not rule.accepts(start(6))
    assert not rule.accepts(record(6, 107, 105)), "from then on nothing is taken as it comes"
