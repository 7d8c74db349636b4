"""What an export holds is what an import reads, as JSON lines and as Parquet; what is wrong with a file is told."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from threadlog.deploy.commands.export_format import ExportFile, Header, KeyLine, RecordLine, end_line
from threadlog.deploy.commands.export_parquet import ParquetExport, ParquetWriter
from threadlog.deploy.failures import CannotRun

HEADER = Header(2, "installation", 16, "2026-01-02T03:04:05.000000+00:00", "0.1.0")
AT = "2026-01-02T03:04:05.678901+00:00"
T = "00000000-0000-4000-8000-0000000000aa"
KEY = KeyLine(0, T, b"12345678", b"wrapped", "name", {"tenant": "a"})


def record(offset: int, *events: dict[str, Any], at: str = AT, **fields: Any) -> dict[str, Any]:
    return {
        "partition": 3, "offset": offset, "key": T, "at": at, "command_id": f"c{offset}", "actor": "user:ann",
        "events": list(events), **fields,
    }  # fmt: skip


SAVED = {"type": "checkpoint.saved", "thread_id": T, "blobs": [{"h": "x", "t": "msgpack", "at": 7}]}
RECORDS = [
    record(1, {"type": "thread.created", "thread_id": T}, trace="00-aa-bb-01"),
    record(2, {"type": "run.created", "thread_id": T, "run_id": T}, {"type": "run.scheduled", "run_id": T}),
    record(4, SAVED, values={"7": base64.b64encode(b"large\x00").decode()}),
    record(5, SAVED, values={"7": None}),
    record(6, at="2026-01-02T03:04:05Z"),
    record(8, {"type": "command.rejected", "code": "invalid", "detail": "é"}, at=""),
]


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@pytest.fixture
def whole() -> bytes:
    return jsonl(HEADER.line(), KEY.line(), *RECORDS, end_line(len(RECORDS)))


def as_read(lines: list[RecordLine | KeyLine]) -> list[dict[str, Any]]:
    read = []
    for line in lines:
        if isinstance(line, KeyLine):
            read.append(line.line())
            continue
        values = {
            str(at): None if value is None else base64.b64encode(value).decode() for at, value in line.values.items()
        }
        said = record(line.offset, *line.events, at=line.at) | {"actor": line.actor, "command_id": line.command_id}
        said |= {"values": values} if values else {}
        read.append(said | ({} if line.trace is None else {"trace": line.trace}))
    return read


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_read_as_they_were_written(whole: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(whole) if packed else whole)
    file = ExportFile(path)
    assert file.header == HEADER and file.lines == len(RECORDS) + 1
    assert as_read(list(file.read())) == [KEY.line(), *RECORDS]


def test_parquet_holds_the_same_and_a_row_for_each_event(tmp_path: Path) -> None:
    import pyarrow.parquet

    path = tmp_path / "all.parquet"
    with path.open("wb") as opened:
        writer = ParquetWriter(opened, HEADER)
        for line in (HEADER.line(), KEY.line(), *RECORDS, end_line(len(RECORDS))):
            writer.write(line)
        writer.close()
    file = ParquetExport(path)
    assert file.header == HEADER
    assert as_read(list(file.read())) == [KEY.line(), *RECORDS]
    events = [row for row in pyarrow.parquet.read_table(path).to_pylist() if row["topic"] == "events"]
    assert [(row["offset"], row["type"]) for row in events[:3]] == [
        (1, "thread.created"), (2, "run.created"), (2, "run.scheduled"),
    ]  # fmt: skip
    assert events[1]["run_id"] == T and events[1]["at"].isoformat() == AT
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CannotRun, match="not complete, or damaged"):
        ParquetExport(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [], "is empty"),
        (lambda lines: lines[1:], "line 1: this is not an export|line 1: .*"),
        (lambda lines: lines[2:], "line 1: an export without a header"),
        (lambda lines: [b"[]\n"], "line 1: not a JSON object"),
        (lambda lines: [lines[0].replace(b'"format":2', b'"format":3'), *lines[1:]], "line 1: format 3 of a later"),
        (lambda lines: lines[:-1], r"line 8: the file ends here"),
        (lambda lines: [*lines[:-1], lines[-1][:-1]], r"line 9: the file ends here"),
        (lambda lines: [*lines[:3], b"{\n", *lines[4:]], "line 4: not JSON"),
        (
            lambda lines: [*lines[:3], b'{"partition":1}\n', *lines[4:]],
            "line 4: not an event record: it lacks 'offset'",
        ),
        (lambda lines: [*lines[:3], *lines[4:]], "line 8: the file has 5 records, the export had 6"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(whole: bytes, change: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(change(whole.splitlines(keepends=True))))
    with pytest.raises(CannotRun, match=told):
        list(ExportFile(path).read())


def test_a_packed_file_that_is_cut_off_is_not_read(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(CannotRun, match="not complete, or damaged"):
        ExportFile(path)
