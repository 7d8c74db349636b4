"""Importer of user code: a file or dotted module that `langgraph.json` names, and its errors in one line.

Imports nothing of LangGraph, so that any process may import an application's modules.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson

_OURS = "threadlog"
_ABSOLUTE = re.compile(r"(?<![\w./-])/(?:[^/\s:()'\"]+/)*?((?:[^/\s:()'\"]+/)?[^/\s:()'\"]+)(?![^\s:()'\"])")
_ENGINE = str(Path(__file__).parents[1])  # as tracebacks name it


def extend_sys_path(config: LanggraphJson) -> None:
    """Put the application's folder and those of its `dependencies` first on `sys.path`."""
    for folder in reversed([*config.dependency_dirs, config.folder]):
        if str(folder) not in sys.path[:1]:
            sys.path.insert(0, str(folder))


def import_source(source: str, *, is_file: bool) -> ModuleType:
    """Import a Python file (an absolute path) or a dotted module. Raises whatever the module raises."""
    return _import_file(Path(source)) if is_file else importlib.import_module(source)


def object_of(app: LanggraphJson, key: str, source: str, attribute: str, type_: type, *, is_file: bool) -> Any:
    """The object of the application that `key` of its `langgraph.json` names, which must be a `type_` of langgraph_sdk.

    Raises:
        ConfigError: it can't be imported, or is something else.
    """
    extend_sys_path(app)
    try:
        module = import_source(source, is_file=is_file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a SystemExit in user code, too
        raise ConfigError(app.path, key, f"it cannot be imported: {describe_error(error, app.folder)}") from None
    value = getattr(module, attribute, None)
    if not isinstance(value, type_):
        found = "nothing of that name" if value is None else f"a {type(value).__name__}"
        expected = f"expected langgraph_sdk.{type_.__name__}()."
        raise ConfigError(app.path, key, f"{source}:{attribute} is {found}; {expected}")
    return value


def _import_file(path: Path) -> ModuleType:
    """Import by path under a unique name: a user's `api.py` or `utils.py` can't collide with another module.

    A file that belongs to an importable package, or was imported already, is imported under its usual name, so that
    the classes in it exist once and its relative imports work.
    """
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == str(path) and name != "__main__":
            return module
    name = _usual_name(path) or f"threadlog_user_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    if name in sys.modules or _found_elsewhere(name, path):
        name = f"threadlog_user_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    else:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _usual_name(path: Path) -> str | None:
    """The dotted name by which `sys.path` would find the file."""
    for entry in sys.path:
        if not entry:
            continue
        try:
            parts = list(path.relative_to(entry).with_suffix("").parts)
        except ValueError:
            continue
        if parts and parts[-1] == "__init__":
            parts.pop()
        if parts and all(part.isidentifier() for part in parts):
            return ".".join(parts)
    return None


def _found_elsewhere(name: str, path: Path) -> bool:
    """Whether `import name` would load another file: of the standard library, of threadlog, of another folder."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top == _OURS:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() != path.resolve()


def describe_error(error: BaseException, folder: Path) -> str:
    """An exception of user code in one line: type, text, and the innermost place in the user's files."""
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}:{error.lineno})"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        within = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        ours = ("importlib", _ENGINE)
        outside = [frame for frame in frames if not any(part in frame.filename for part in ours)]
        chosen = (within or outside or frames)[-1:]
        if chosen:
            place = f" ({chosen[0].filename}:{chosen[0].lineno})"
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def without_folders(text: str) -> str:
    """The text for clients: of absolute paths the file and its folder only."""
    return _ABSOLUTE.sub(r"\1", text)
