"""Template of an embedded server's database: one per test session, copied where a test's server has none yet.

`initdb` takes a tenth of the CPU of a server's start. The session's servers begin without, and run it themselves.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from threadlog.deploy.postgres import EmbeddedPostgres

_TEMPLATE = "THREADLOG_TEST_TEMPLATE"  # for the workers of pytest-xdist, which inherit it


def initialise(data_dir: Path) -> None:
    """Gives a data folder the database that a first start would make. Outside a test session, does nothing."""
    if (session := os.environ.get(_TEMPLATE)) is None:
        return
    template = Path(session) / "postgres"
    with (Path(session) / "making").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            server = EmbeddedPostgres(template)
            server.start()
            server.stop()
    data_dir.mkdir(parents=True, exist_ok=True)
    # Not by shutil.copytree, which makes the files root's where root runs the tests.
    subprocess.run(["cp", "-a", str(template), str(data_dir / "postgres")], check=True)


def use_template(config: pytest.Config) -> None:
    """From now on, until the end of the session, this process and the workers it starts copy one."""
    if _TEMPLATE not in os.environ:
        folder = tempfile.mkdtemp(prefix="tl-template-")
        os.environ[_TEMPLATE] = folder

        def remove() -> None:
            del os.environ[_TEMPLATE]
            shutil.rmtree(folder, ignore_errors=True)

        config.add_cleanup(remove)
