"""The wheel: what it has, what it leaves out, and that it works where no clone of this project is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("api", "deploy", "engine", "projections", "src")
DATA = {".html", ".sql", ".xml", ".zdict"}


def uv(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False
    )
    if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
        pytest.skip("no package index can be reached: the build backend comes from one")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools takes into a wheel what earlier builds have left in the folder."""
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    uv("build", "--quiet", "--wheel", "--out-dir", source / "dist", source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, files: set[str]) -> Message:
    (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return BytesParser().parsebytes(archive.read(name))


def test_all_that_an_environment_gets_is_one_package(files: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in files} == {"threadlog"}


def test_faust_finds_the_transport_by_its_entry_point(wheel: Path, files: set[str]) -> None:
    (name,) = (name for name in files if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        said = archive.read(name).decode()
    target = said.split("[faust.transports]\nthreadlog = ", 1)[1].splitlines()[0]
    module, _, attribute = target.partition(":")
    assert getattr(import_module(module), attribute).Producer


def test_every_module_and_data_file_is_in_it_but_no_examples_and_no_sources_of_the_studio(files: set[str]) -> None:
    there = {
        f"threadlog/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS[:-1]
        for path in (ROOT / folder).rglob("*")
        if path.suffix in DATA | {".py"} and "__pycache__" not in path.parts
    }
    kit = {
        f"threadlog/testing/{path.name}"
        for path in (ROOT / "src" / "threadlog" / "testing").iterdir()
        if path.suffix == ".py"
    }
    bundle = {f"threadlog/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "api/studio/bundle").iterdir()}
    rooms = ("deploy/docs/", "deploy/examples/", "deploy/monitoring/", "api/studio/web/")
    left_out = tuple(f"threadlog/{room}" for room in rooms)
    examples = {name for name in there if name.startswith(left_out)}
    assert examples and {Path(name).suffix for name in there} == DATA | {".py"}
    assert {name for name in files if ".dist-info/" not in name} == (
        (there - examples) | kit | bundle | {"threadlog/__init__.py", "threadlog/py.typed"}
    )


def test_the_metadata_say_what_pyproject_says(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Author"] == "threadlog contributors"
    assert metadata["Requires-Python"].replace(" ", "") in ("<3.14,>=3.11", project["requires-python"])
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert {"Framework :: AsyncIO", "Typing :: Typed"} <= set(project["classifiers"])
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])


def test_it_runs_where_no_clone_is(wheel: Path, tmp_path: Path) -> None:
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--no-deps", "--python", python, wheel)
    site = tmp_path / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # What it needs is borrowed from this environment: of a path in a .pth file the .pth files don't count, so this
    # environment's link to the clone is not followed.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib"))
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60, "check": True}
    place = subprocess.run([python, "-c", "import threadlog.engine as e; print(e.__file__)"], **run).stdout.strip()
    assert Path(place).is_relative_to(site)
    shown = subprocess.run([site.parents[2] / "bin" / "threadlog", "--help"], **run).stdout
    assert "doctor" in shown and "events" in shown
