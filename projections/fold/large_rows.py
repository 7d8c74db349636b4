"""Large columns of `project_rows`: they go through the staging table, and into their rows once these are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from threadlog.engine.postgres.staging import VALUE_BYTES, StagedValue, is_large

Row = tuple[Any, ...]


class _Column(NamedTuple):
    """A column that can be large: of the rows of which argument, with what in its place until it is filled in."""

    argument: int
    place: int
    key: Callable[[Row], str]
    until: str | bytes
    fill: str


_COLUMNS = (
    _Column(5, 9, lambda row: str(row[0]), "{}", """
        UPDATE runs t SET kwargs = convert_from(s.value, 'UTF8')::json
        FROM pg_temp.staged s WHERE s.place = '5' AND t.run_id = s.key::uuid"""),
    _Column(7, 8, lambda row: str(row[0]), "{}", """
        UPDATE run_queue t SET payload = convert_from(s.value, 'UTF8')::json
        FROM pg_temp.staged s WHERE s.place = '7' AND t.run_id = s.key::uuid"""),
    # A value that was there before is the same one.
    _Column(15, 3, lambda row: f"{row[0]} {row[1]}", b"", """
        UPDATE channel_values t SET data = s.value FROM pg_temp.staged s WHERE s.place = '15'
        AND t.thread_id = split_part(s.key, ' ', 1)::uuid AND t.hash = split_part(s.key, ' ', 2) AND t.data = ''"""),
)  # fmt: skip


class LargeRows(NamedTuple):
    """`arguments` of `project_rows` without what is large in them; `values` to stage, and what fills them in."""

    arguments: Sequence[Any]
    values: list[StagedValue]
    fill: list[str]


def without_large(arguments: Sequence[Any]) -> LargeRows:
    """The arguments as they are, and nothing to stage, unless there is much in them."""
    if not is_large(len(row[column.place] or "") for column in _COLUMNS for row in arguments[column.argument] or ()):
        return LargeRows(arguments, [], [])
    arguments, values, fill = list(arguments), [], []
    for column in _COLUMNS:
        rows: list[Row] = []
        for row in arguments[column.argument] or ():
            value = row[column.place]
            if value is not None and len(value) >= VALUE_BYTES:
                data = value.encode() if isinstance(value, str) else value
                values.append(StagedValue(str(column.argument), column.key(row), data))
                row = (*row[: column.place], column.until, *row[column.place + 1 :])
            rows.append(row)
        if any(value.place == str(column.argument) for value in values):
            arguments[column.argument] = rows
            fill.append(column.fill)
    return LargeRows(arguments, values, fill)
