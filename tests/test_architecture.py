"""ARCHITECTURE.md and docs/ name folders, modules, functions and pages that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("engine", "projections", "api", "deploy")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def house() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text().split("```\n")[1]


def rooms() -> list[Path]:
    """The packages in the layers, two levels deep in the executor."""
    folders = [ROOT / layer for layer in LAYERS] + [ROOT / "engine" / "executor"]
    return [
        path.relative_to(ROOT)
        for folder in folders
        for path in sorted(folder.iterdir())
        if (path / "__init__.py").exists()
    ]


@pytest.mark.parametrize("room", rooms(), ids=str)
def test_every_room_is_in_the_house(room: Path) -> None:
    assert re.search(rf"(?<![\w/]){room.name}/", house())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_pages_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    names = re.findall(rf"`(?:threadlog\.)?((?:{'|'.join(LAYERS)})(?:\.\w+)+)`", text)
    assert [name for name in names if not is_there(name)] == []
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    assert [to for to in links if "://" not in to and not (page.parent / to).exists()] == []


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, a package, or something that a module defines at its top level."""
    module = ROOT / name.replace(".", "/")
    if module.is_dir() or module.with_suffix(".py").exists():
        return True
    defined = re.compile(rf"^(?:(?:async )?def|class) {module.name}\b|^{module.name}\b.*=", re.MULTILINE)
    source = module.parent.with_suffix(".py")
    return source.exists() and defined.search(source.read_text()) is not None


def test_no_client_of_the_api_imports_history() -> None:
    """Its commands are an operator's: no module of the api, and none that runs an application, makes them."""
    folders = (ROOT / "api", ROOT / "engine" / "executor", ROOT / "engine" / "link", ROOT / "engine" / "gateway")
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert [path for path in sources if re.search("ImportHistory|CloseImport|history\\.import", path.read_text())] == []
