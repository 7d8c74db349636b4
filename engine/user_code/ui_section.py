"""The sections `ui` and `ui_config` of `langgraph.json`, read and checked: components that agents show in chat pages.

They are bundled by `@langchain/langgraph-ui`, which a project installs with npm, as LangGraph's own servers do.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadlog.engine.user_code.http_section import Raise

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_BUNDLER = Path("node_modules", "@langchain", "langgraph-ui", "dist", "cli.mjs")


@dataclass(frozen=True, slots=True)
class UiSection:
    """`sources`: for each name (of a graph, mostly) the file whose default export is its components, relative to
    `folder`. `shared`: packages that the chat page brings along. `missing`: why they can't be bundled; empty: they can.
    """

    folder: Path
    sources: Mapping[str, str]
    shared: tuple[str, ...] = ()
    node: str = ""
    bundler: Path | None = None
    missing: str = ""


def read_ui(value: Any, config: Any, folder: Path, wrong: Raise) -> UiSection | None:
    """The sections; None where there are none. Raises what `wrong` makes."""
    shared = _shared(config, wrong)
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise wrong("ui", 'expected an object such as {"agent": "./src/ui.tsx"}.')
    for name, source in value.items():
        key = f"ui.{name}"
        if not _NAME.fullmatch(name):
            raise wrong(key, "a name has letters, digits, `_`, `-` and `.` only.")
        file = (folder / source).resolve() if isinstance(source, str) else None
        if file is None or not file.is_file():
            raise wrong(key, f"{file or source} is no file. Correct the path (it is relative to this file).")
        if not file.is_relative_to(folder.resolve()):
            raise wrong(key, f"{file} is outside of {folder}, where the bundler does not look.")
    node, bundler = shutil.which("node"), _bundler(folder)
    missing = "" if bundler else "install their bundler in the project, by `npm install @langchain/langgraph-ui`"
    missing = missing if node else "Node.js is needed to bundle them, and there is no `node` on the path"
    return UiSection(folder, dict(value), shared, node or "", bundler, missing)


def _shared(config: Any, wrong: Raise) -> tuple[str, ...]:
    if not config:
        return ()
    shared = config.get("shared", []) if isinstance(config, Mapping) else None
    if not isinstance(shared, list) or not all(isinstance(package, str) for package in shared):
        raise wrong("ui_config", 'expected an object such as {"shared": ["my-package"]}.')
    if unknown := [key for key in config if key != "shared"]:
        raise wrong(f"ui_config.{unknown[0]}", "it is not known here; there is `shared`.")
    return tuple(shared)


def _bundler(folder: Path) -> Path | None:
    places = (place / _BUNDLER for place in (folder, *folder.parents))
    return next((place for place in places if place.is_file()), None)
