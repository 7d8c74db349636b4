"""Folders closed to others are opened to the database's user alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from threadlog.deploy.passage import let_pass

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0,
        reason="only root has folders of its own and runs it as another user",
    ),
]
USER, STRANGER = 65_531, 65_532


def may_pass(folder: Path, uid: int) -> bool:
    done = subprocess.run(["cat", str(folder / "inside")], user=uid, group=uid, extra_groups=[], capture_output=True)
    return done.returncode == 0


def may_list(folder: Path, uid: int) -> bool:
    done = subprocess.run(["ls", str(folder)], user=uid, group=uid, extra_groups=[], capture_output=True)
    return done.returncode == 0


def test_one_user_may_pass_and_no_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "inside").write_text("x")
    (home / "inside").chmod(0o644)
    assert not may_pass(home, USER)
    for _ in range(2):
        let_pass(home / "postgres", USER)
        assert may_pass(home, USER) and not may_list(home, USER)
        assert not may_pass(home, STRANGER)
    let_pass(home / "postgres", STRANGER)
    assert may_pass(home, USER) and may_pass(home, STRANGER)
    assert home.stat().st_mode & stat.S_IRWXO == 0
