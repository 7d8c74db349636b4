"""The format of an export: a header, event records in the order of the log's clock, an end that says how many there
are.

A line is a JSON object. `{"export": …}` is the first one; `{"data_key": …}` a key of encrypted content, encrypted
itself with the installation's; `{"end": {"records": n}}` the last one; all others are event records.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from threadlog.deploy.failures import CannotRun

FORMAT = 2
"""1 had neither header nor end."""

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """`installation`: a digest of the beginning of its log; `thread_id`: only of this thread; `since`, `until`: not of
    all times."""

    format: int
    installation: str
    partitions: int
    exported_at: str
    threadlog: str
    thread_id: str | None = None
    since: str | None = None
    until: str | None = None

    def line(self) -> dict[str, Any]:
        return {"export": asdict(self)}


@dataclass(frozen=True, slots=True)
class RecordLine:
    """An event record of an export. `values`: the large values that its events name, by their offset there; None for
    one that the log had no more. `number`: of its line in the file."""

    number: int
    partition: int
    offset: int
    key: str
    at: str
    command_id: str
    actor: str | None
    trace: str | None
    events: list[dict[str, Any]]
    values: dict[int, bytes | None]
    size: int = 0


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A data key, encrypted with the installation key called `wrapped_by`, or by the application's handlers in this
    `context`."""

    number: int
    owner: str
    id: bytes
    wrapped: bytes
    wrapped_by: str
    context: dict[str, Any] | None = None

    def line(self) -> dict[str, Any]:
        return {
            "data_key": {
                "owner": self.owner,
                "id": self.id.hex(),
                "wrapped": base64.b64encode(self.wrapped).decode(),
                "wrapped_by": self.wrapped_by,
                "context": self.context,
            }
        }


def end_line(records: int) -> dict[str, Any]:
    return {"end": {"records": records}}


class ExportFile:
    """A file that `threadlog export` has written, gzip'ed or not. Everything raises `CannotRun` with the line at
    fault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = self._read_header()
        self.lines = self._count_lines()

    def _read_header(self) -> Header:
        with self._opened() as file:
            first = file.readline()
        if not first:
            raise CannotRun(f"{self.path} is empty")
        return header_in(self.path, self._parsed(1, first))

    def _count_lines(self) -> int:
        """Of records and keys. The end is looked for first: of a file that is cut off nothing is imported."""
        lines, last = 0, b""
        with self._opened() as file:
            while block := file.read(_READ_BYTES):
                lines += block.count(b"\n")
                last = (last + block)[-256:] if len(block) < 256 else block[-256:]
        end = last.rstrip(b"\n").rpartition(b"\n")[2]
        records = None
        if last.endswith(b"\n"):
            with suppress(ValueError, KeyError, TypeError):
                records = orjson.loads(end)["end"]["records"]
        if type(records) is not int:
            raise CannotRun(
                f"{self.path}, line {lines + (not last.endswith(bytes([10])))}: the file ends here, without the line "
                "that ends an export: it is not complete"
            )
        self.records = records
        return lines - 2

    def read(self) -> Iterator[RecordLine | KeyLine]:
        """What is between header and end, in order."""
        records = 0
        with self._opened() as file:
            for number, value in enumerate(file, 1):
                if number == 1:
                    continue
                said = self._parsed(number, value)
                if "end" in said:
                    if records != self.records or number != self.lines + 2:
                        raise self.malformed(number, f"the file has {records} records, the export had {self.records}")
                    return
                try:
                    line = key_line(number, said["data_key"]) if "data_key" in said else record_line(number, said)
                except (KeyError, TypeError, ValueError) as error:
                    raise self.malformed(number, f"not an event record: {_why(error)}") from None
                records += isinstance(line, RecordLine)
                yield line

    def malformed(self, number: int, why: str) -> CannotRun:
        return CannotRun(f"{self.path}, line {number}: {why}")

    def _parsed(self, number: int, value: bytes) -> dict[str, Any]:
        try:
            said = orjson.loads(value)
        except ValueError as error:
            raise self.malformed(number, f"not JSON: {error}") from None
        if not isinstance(said, dict):
            raise self.malformed(number, "not a JSON object")
        return said

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb") as plain:
                if plain.read(2) == b"\x1f\x8b":
                    plain.seek(0)
                    with cast(IO[bytes], gzip.open(plain, "rb")) as unpacked:
                        yield unpacked
                else:
                    plain.seek(0)
                    yield plain
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CannotRun(f"{self.path} can't be unpacked: it is not complete, or damaged ({error})") from None
        except OSError as error:
            raise CannotRun(f"{self.path} can't be read: {error.strerror or error}") from None


def header_in(path: Path, said: dict[str, Any]) -> Header:
    """The header of an export, in its first line. Raises `CannotRun`."""
    if "export" not in said:
        if {"partition", "offset", "events"} <= said.keys():
            raise CannotRun(
                f"{path}, line 1: an export without a header, which an earlier version of threadlog has "
                "written. It may lack records: export it anew with this version"
            )
        raise CannotRun(f"{path}, line 1: this is not an export of threadlog")
    header = said["export"]
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        raise CannotRun(f"{path}, line 1: the header is not one of an export of threadlog")
    if header["format"] > FORMAT:
        raise CannotRun(
            f"{path}, line 1: format {header['format']} of a later version of threadlog "
            f"({header.get('threadlog')}); this one reads up to {FORMAT}: upgrade first"
        )
    try:
        known: dict[str, Any] = {name: header[name] for name in Header.__dataclass_fields__ if name in header}
        return Header(**known)
    except TypeError as error:
        raise CannotRun(f"{path}, line 1: {error}") from None


def record_line(number: int, said: dict[str, Any]) -> RecordLine:
    values = {
        int(offset): None if value is None else base64.b64decode(value, validate=True)
        for offset, value in said.get("values", {}).items()
    }
    line = RecordLine(
        number, said["partition"], said["offset"], said["key"], said["at"], said["command_id"], said.get("actor"),
        said.get("trace"), said["events"], values, sum(len(value or b"") for value in values.values()),
    )  # fmt: skip
    texts = (line.key, line.at, line.command_id)
    if type(line.partition) is not int or type(line.offset) is not int or not all(type(text) is str for text in texts):
        raise ValueError("a field of it has the wrong type")
    for event in line.events:
        if not isinstance(event, dict) or type(event.get("type")) is not str:
            raise ValueError("an event of it has no type")
    return line


def key_line(number: int, said: dict[str, Any]) -> KeyLine:
    wrapped = base64.b64decode(said["wrapped"], validate=True)
    return KeyLine(number, said["owner"], bytes.fromhex(said["id"]), wrapped, said["wrapped_by"], said.get("context"))


def _why(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
