"""An export as Parquet: a row per event, for whatever reads columns, and all that an import needs.

Rows of the topic `values` are large values, of `keys` the keys of encrypted content; they come before the events that
need them. A command that led to no event has a row without a type. The header is in the file's metadata, as
`threadlog_export`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from threadlog.deploy.commands.export_format import Header, KeyLine, RecordLine, header_in, key_line, record_line
from threadlog.deploy.extras import PARQUET
from threadlog.deploy.failures import CannotRun

if TYPE_CHECKING:
    import pyarrow

MAGIC = b"PAR1"
_METADATA = b"threadlog_export"
_GROUP_ROWS = 10_000
_GROUP_BYTES = 16 * 1024 * 1024
_READ_ROWS = 1000


def _arrow() -> Any:
    if not PARQUET.installed:
        raise CannotRun(PARQUET.missing)
    import pyarrow
    import pyarrow.parquet

    return pyarrow


def _schema(pa: Any) -> pyarrow.Schema:
    text, whole = pa.string(), pa.int64()
    return pa.schema([
        ("topic", pa.dictionary(pa.int8(), text)),
        ("partition", pa.int32()),
        ("offset", whole),
        ("at", pa.timestamp("us", tz="UTC")),
        ("key", text),
        ("thread_id", text),
        ("run_id", text),
        ("type", pa.dictionary(pa.int16(), text)),
        ("actor", text),
        ("trace", text),
        ("command_id", text),
        ("body", text),
        ("value", pa.binary()),
        ("at_text", text),  # where `at` does not say all of it
    ])  # fmt: skip


class ParquetWriter:
    """Writes lines of an export into an open file, some thousand rows at a time."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        pa = _arrow()
        self._pa = pa
        self._schema = _schema(pa).with_metadata({_METADATA: orjson.dumps(header.line()["export"])})
        self._writer = pa.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def write(self, line: Mapping[str, Any]) -> None:
        if (key := line.get("data_key")) is not None:
            self._add({"topic": "keys", "key": key["owner"], "body": orjson.dumps(key).decode()})
            return
        if "events" not in line:
            return  # header and end: Parquet has its own
        place = {"partition": line["partition"], "key": line["key"]}
        for offset, value in line.get("values", {}).items():
            data = None if value is None else base64.b64decode(value)
            self._add({**place, "topic": "values", "offset": int(offset), "value": data}, len(data or b""))
        at, at_text = _time(line["at"])
        record = {
            **place, "topic": "events", "offset": line["offset"], "at": at, "at_text": at_text, "actor": line["actor"],
            "trace": line.get("trace"), "command_id": line["command_id"],
        }  # fmt: skip
        for event in line["events"]:
            body = orjson.dumps(event).decode()
            named = {name: _id(event.get(name)) for name in ("thread_id", "run_id")}
            self._add({**record, **named, "type": event["type"], "body": body}, len(body))
        if not line["events"]:
            self._add(record)

    def _add(self, row: dict[str, Any], size: int = 0) -> None:
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        """The file is complete."""
        self._flush()
        self._writer.close()


def _time(at: str) -> tuple[datetime | None, str | None]:
    """As a timestamp, and as text where that would not be the same again."""
    try:
        time = datetime.fromisoformat(at)
        if time.tzinfo is not None and _text(time) == at:
            return time, None
    except (ValueError, OverflowError):
        return None, at
    return time.astimezone(UTC) if time.tzinfo is not None else None, at


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class ParquetExport:
    """A file that `threadlog export` has written as Parquet; as `export_format.ExportFile`, with rows for lines."""

    def __init__(self, path: Path) -> None:
        pa = _arrow()
        self.path = path
        self._pa = pa
        try:
            file = pa.parquet.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise CannotRun(f"{path} is not complete, or damaged: {error}") from None
        with file:
            metadata = (file.schema_arrow.metadata or {}).get(_METADATA)
            missing = set(_schema(pa).names) - set(file.schema_arrow.names)
            self.lines = file.metadata.num_rows
        if metadata is None or missing:
            raise CannotRun(f"{path} is not an export of threadlog")
        self.header: Header = header_in(path, {"export": orjson.loads(metadata)})

    def read(self) -> Iterator[RecordLine | KeyLine]:
        """What is in the file, in order. Raises `CannotRun`."""
        values: dict[str, str | None] = {}
        record: dict[str, Any] | None = None
        began = 0
        for number, row in enumerate(self._rows(), 1):
            try:
                if record is not None and (
                    row["topic"] != "events" or (row["partition"], row["offset"]) != record["place"]
                ):
                    yield record_line(began, record)
                    record = None
                match row["topic"]:
                    case "keys":
                        yield key_line(number, orjson.loads(row["body"]))
                    case "values":
                        value = row["value"]
                        values[str(row["offset"])] = None if value is None else base64.b64encode(value).decode()
                    case "events":
                        if record is None:
                            began, record, values = number, {**_record(row), "values": values}, {}
                        if row["body"] is not None:
                            record["events"].append(orjson.loads(row["body"]))
                    case _:
                        raise ValueError("its topic is unknown")
            except (KeyError, TypeError, ValueError) as error:
                raise self.malformed(number, f"not an event record: {error}") from None
        if record is not None:
            yield record_line(began, record)

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            with self._pa.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=_READ_ROWS):
                    yield from batch.to_pylist()
        except (self._pa.ArrowInvalid, OSError) as error:
            raise CannotRun(f"{self.path} is damaged: {error}") from None

    def malformed(self, number: int, why: str) -> CannotRun:
        return CannotRun(f"{self.path}, row {number}: {why}")


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    at = row["at_text"] if row["at_text"] is not None else _text(row["at"])
    told = {name: row[name] for name in ("partition", "offset", "key", "actor", "trace", "command_id")}
    return {**told, "at": at, "events": [], "place": (row["partition"], row["offset"])}
