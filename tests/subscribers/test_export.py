"""Exports: finished runs and closed windows as files, each run in one, whatever crashes in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.subscribers.test_usage import NOON, R1, R2, R3, R4, created, prices, records, started, used
from threadlog.engine.domain.events import RunSucceeded
from threadlog.projections.derived import export
from threadlog.projections.derived.export import Exporter
from threadlog.projections.derived.tables import DerivedTables

LATER = NOON + timedelta(hours=3)


@pytest.fixture
async def tables(empty_database: str, tmp_path: Path) -> AsyncIterator[DerivedTables]:
    opened = await DerivedTables.open(empty_database, prices(tmp_path), exports=True)
    yield opened
    await opened.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exports"


@pytest.fixture
def exporter(tables: DerivedTables, folder: Path) -> Exporter:
    opened = Exporter(tables.pool, folder)
    opened.prepare()
    return opened


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted((folder / kind).glob("*/*")) for line in path.open()]


async def test_a_finished_run_is_one_line(tables: DerivedTables, exporter: Exporter, folder: Path) -> None:
    story = records()
    for cut in (story[:6], story[4:], story):
        await tables.count(cut)
        await exporter.export(NOON)
        assert await exporter.export(NOON) == []
    runs = lines(folder, "runs")
    assert [run["run_id"] for run in runs] == [R1, R2, R3, R4]
    assert len({(run["partition"], run["offset"], run["index"]) for run in runs}) == 4
    first = runs[0]
    assert (first["status"], first["attempts"], first["tags"], first["actor"]) == (
        "success",
        2,
        ["blue", "red"],
        "user:ann",
    )
    assert (round(first["cost"], 5), first["usage"]["gpt-5"]["calls"]) == (6.00002, 2)
    assert first["ended_at"] == (NOON + timedelta(seconds=70)).isoformat().replace("+00:00", "Z")


async def test_a_crash_writes_the_same_file_again(
    tables: DerivedTables, exporter: Exporter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export._write_whole

    def torn(path: Path, content: bytes) -> None:
        write(path, content)
        raise OSError("no space left on device")

    await tables.count(records()[:6])
    monkeypatch.setattr(export, "_write_whole", torn)
    with pytest.raises(OSError, match="no space"):
        await exporter.export(NOON)
    (before,) = (folder / "runs").glob("*/*")
    text = before.read_text()
    await tables.count(records())
    monkeypatch.undo()
    await exporter.export(NOON)
    assert before.read_text() == text
    assert [run["run_id"] for run in lines(folder, "runs")] == [R1, R2, R3, R4]


async def test_many_runs_are_several_files(
    tables: DerivedTables, exporter: Exporter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "RUNS_OF_A_FILE", 3)
    await tables.count(records())
    assert [path.name[-14:] for path in await exporter.export(NOON)] == ["00000001.jsonl", "00000002.jsonl"]
    assert len(lines(folder, "runs")) == 4


async def test_a_window_is_written_when_it_is_over_and_again_when_something_late_comes(
    tables: DerivedTables, exporter: Exporter, folder: Path
) -> None:
    await tables.count(records())
    assert not [path for path in await exporter.export(NOON) if "windows" in path.parts]
    written = [path for path in await exporter.export(LATER) if "windows" in path.parts]
    assert [path.name for path in written] == ["2026-11-21T12.jsonl", "2026-11-21T13.jsonl"]
    noon = {(line["dimension"], line["value"]): line for line in map(json.loads, written[0].open())}
    assert (noon["all", ""]["runs"], noon["graph", "h"]["failed"], noon["tag", "red"]["runs"]) == (2, 1, 2)
    assert noon["all", ""]["start"] == "2026-11-21T12:00:00Z" and noon["all", ""]["run_p95"] > 50
    assert await exporter.export(LATER) == []

    late = records(
        [
            (100, [created("R9")]),
            (101, [started("R9"), RunSucceeded(thread_id="T", run_id="R9", attempt=1, usage=used(5))]),
        ],
        partition=2,
    )
    await tables.count(late)
    again = [path for path in await exporter.export(LATER) if "windows" in path.parts]
    assert again == written[:1]
    assert next(line for line in map(json.loads, again[0].open()) if line["dimension"] == "all")["runs"] == 3


async def test_what_a_killed_process_left_half_written_goes(exporter: Exporter, folder: Path) -> None:
    (folder / "runs" / "2026-11-21").mkdir()
    left = folder / "runs" / "2026-11-21" / ".20261121T120000Z-00000001.jsonl.part"
    left.write_text('{"partition')
    exporter.prepare()
    assert not left.exists()


async def test_without_a_folder_nothing_is_noted(empty_database: str, tmp_path: Path) -> None:
    tables = await DerivedTables.open(empty_database, prices(tmp_path))
    await tables.count(records())
    assert await tables.pool.fetchval("SELECT count(*) FROM threadlog_derived.ended_runs") == 0
    await tables.aclose()
