"""What is committed is what the sources give."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.js


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sources_give_the_bundle(web: Path, tmp_path: Path) -> None:
    run("node", "build.mjs", str(tmp_path / "bundle"), cwd=web)
    built = {file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()}
    committed = {file.name: file.read_bytes() for file in (web.parent / "bundle").iterdir()}
    assert sorted(built) == sorted(committed)
    differing = [name for name in built if built[name] != committed[name]]
    assert not differing, "build it: cd api/studio/web; npm ci --ignore-scripts; npm run build"


def test_the_types_are_right(web: Path) -> None:
    run("node", "node_modules/typescript/bin/tsc", "--noEmit", cwd=web)


def test_each_package_of_the_bundle_has_its_licence_there(web: Path) -> None:
    texts = (web.parent / "bundle" / "LICENSES.txt").read_text().split("-" * 80)[1:]
    assert len(texts) > 50
    for text in texts:
        first, _, rest = text.strip().partition("\n")
        assert first.endswith(("(MIT)", "(ISC)", "(Apache-2.0)", "(BSD-3-Clause)", "(BSD-2-Clause)")), first
        assert rest.strip(), f"{first}: no text"
