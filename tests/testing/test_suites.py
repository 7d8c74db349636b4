"""The example's test suite passes, on the embedded Postgres, as users run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from threadlog.deploy.postgres import PostgresFailed
from threadlog.testing.database import CACHE_VARIABLE, DATABASE_VARIABLE, new_database, session_postgres

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run_pytest(folder: Path, *arguments: str, **variables: str) -> str:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "THREADLOG"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example(tmp_path: Path, cache: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(ROOT / "deploy" / "examples" / "support_agent", app)
    assert "4 passed" in run_pytest(app, **{CACHE_VARIABLE: str(cache)})


async def test_each_session_has_a_kept_folder_for_itself(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
    with session_postgres() as one, session_postgres() as other:
        assert one != other
        left = new_database(one)
        await left.__aenter__()  # of a session that is killed here
    folders = sorted(os.listdir(cache))
    with session_postgres() as again:
        assert again == one
        async with new_database(again) as database:
            assert database.split("?")[0] != again.split("?")[0]
    assert sorted(os.listdir(cache)) == folders
    (cache / "postgres-0" / "data" / "PG_VERSION").write_text("no number")
    with session_postgres() as anew, pytest.raises(PostgresFailed, match="set THREADLOG_TESTING_CACHE_DIR"):
        assert anew == one
        monkeypatch.setattr("threadlog.testing.database._SLOTS", 1)
        with session_postgres():
            raise AssertionError("two servers in one folder")
