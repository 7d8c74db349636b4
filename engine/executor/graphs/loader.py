"""The user's graphs: imported once per process, made anew per run where they are factories."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from threadlog.engine.executor.langgraph_internals import ExecutionRuntime, ReadRuntime
from threadlog.engine.user_code.langgraph_json import GraphSpec, LanggraphJson

_WRITES = ("threads.create_run", "threads.update")
_RUNTIME = "__pregel_runtime"
_OURS = "threadlog"
UNNAMED = (None, "", "LangGraph")  # what a graph is called that was compiled without a name
_ABSOLUTE = re.compile(r"(?<![\w./-])/(?:[^/\s:()'\"]+/)*?((?:[^/\s:()'\"]+/)?[^/\s:()'\"]+)(?![^\s:()'\"])")


def graph_name(graph: Pregel[Any, Any, Any, Any] | None, graph_id: str) -> str:
    """What a graph is called: the name it was compiled with, its id where it was given none."""
    return graph_id if graph is None or graph.name in UNNAMED else str(graph.name)


class GraphLoadError(Exception):
    """A graph cannot be had from the user's code. The message names the graph, the place and the reason.

    Clients see it, so of the server's paths it has the file and its folder only; the log has them whole.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_ABSOLUTE.sub(r"\1", message))


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph as found: `compiled`, or a `factory` called for each use; `error` when the code does not load."""

    spec: GraphSpec
    compiled: Pregel[Any, Any, Any, Any] | None = None
    factory: Callable[..., Any] | None = None
    error: str | None = None

    @property
    def graph_id(self) -> str:
        return self.spec.graph_id

    @asynccontextmanager
    async def open(
        self, config: dict[str, Any], *, access: str = "threads.create_run", context: Any = None
    ) -> AsyncIterator[Pregel[Any, Any, Any, Any]]:
        """The graph for one use; what a factory opened is closed afterwards.

        `access` is why: `threads.create_run`, `threads.update`, or `assistants.read` (see `ServerRuntime`).

        Raises:
            GraphLoadError: the code did not load, or the factory returned something that is no graph.
        """
        if self.compiled is not None:
            yield self.compiled
            return
        if self.factory is None:
            raise GraphLoadError(self.error or f"graph {self.graph_id} is not loaded")
        runtime = _runtime(access, (config.get("configurable") or {}).get("langgraph_auth_user"), context)
        args, kwargs = _arguments(self.factory, self._factory_config(config, access, runtime), runtime)
        made = self.factory(*args, **kwargs)
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, AbstractAsyncContextManager):
            async with made as inner:
                yield self._graph(inner)
        elif isinstance(made, AbstractContextManager):
            with made as inner:
                yield self._graph(inner)
        else:
            yield self._graph(made)

    def _factory_config(self, config: dict[str, Any], access: str, runtime: Any) -> dict[str, Any]:
        """A copy of the config with what factories, and only they, are told (contract 3.9)."""
        configurable = {
            "user_id": "",
            "langgraph_auth_user": None,
            "langgraph_auth_user_id": "",
            "langgraph_auth_permissions": [],
            "graph_id": self.graph_id,
            **(config.get("configurable") or {}),
            "__is_for_execution__": access in _WRITES,
        }
        if runtime is not None:
            configurable[_RUNTIME] = runtime
        return {"tags": [], "metadata": {}, "callbacks": None, **config, "configurable": configurable}

    def _graph(self, made: Any) -> Pregel[Any, Any, Any, Any]:
        graph = _as_graph(made, self.graph_id)
        if graph is None:
            raise GraphLoadError(
                f"graph {self.graph_id}: the factory {self.spec.attribute} in {self.spec.source} returned a "
                f"{type(made).__name__}. Return a StateGraph, a compiled graph or an entrypoint."
            )
        bound = (graph.config or {}).get("configurable") or {}
        if _RUNTIME in bound:  # made with `.with_config(config)`; LangGraph has a runtime of its own under this key
            kept = {key: value for key, value in bound.items() if key != _RUNTIME}
            graph = graph.copy({"config": {**(graph.config or {}), "configurable": kept}})
        return graph


@dataclass(frozen=True, slots=True)
class Graphs:
    """All graphs of a langgraph.json, the broken ones included."""

    by_id: Mapping[str, LoadedGraph] = field(default_factory=dict)

    @property
    def broken(self) -> list[LoadedGraph]:
        return [graph for graph in self.by_id.values() if graph.error]


def load_graphs(config: LanggraphJson) -> Graphs:
    """Import every graph of the file. One that does not load is kept with its `error`."""
    folders = [*config.dependency_dirs, config.folder]
    for folder in reversed(folders):
        if str(folder) not in sys.path[:1]:
            sys.path.insert(0, str(folder))
    modules: dict[str, ModuleType | str] = {}
    return Graphs({name: _load(spec, config, modules) for name, spec in config.graphs.items()})


def _load(spec: GraphSpec, config: LanggraphJson, modules: dict[str, ModuleType | str]) -> LoadedGraph:
    module = modules.get(spec.source)
    if module is None:
        module = modules[spec.source] = _import(spec, config)
    if isinstance(module, str):
        return LoadedGraph(spec, error=f"graph {spec.graph_id} cannot be imported: {module}")
    try:
        found = getattr(module, spec.attribute)
    except AttributeError:
        names = ", ".join(_candidates(module)) or "none"
        return LoadedGraph(
            spec,
            error=f'graph {spec.graph_id}: {spec.source} has no "{spec.attribute}". Graphs found there: {names}. '
            f"Correct {config.path}, graphs.{spec.graph_id}.",
        )
    try:
        graph = _as_graph(found, spec.graph_id)
    except Exception as error:
        return LoadedGraph(spec, error=f"graph {spec.graph_id} cannot be compiled: {describe(error, config.folder)}")
    if graph is not None:
        return LoadedGraph(spec, compiled=graph)
    if callable(found):
        return LoadedGraph(spec, factory=found)
    return LoadedGraph(
        spec,
        error=f"graph {spec.graph_id}: {spec.attribute} in {spec.source} is a {type(found).__name__}. Expected a "
        "StateGraph, a compiled graph, an entrypoint, or a function that returns one.",
    )


def _import(spec: GraphSpec, config: LanggraphJson) -> ModuleType | str:
    """The module, or why there is none."""
    try:
        if not spec.is_file:
            return importlib.import_module(spec.source)
        return _import_file(Path(spec.source))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a SystemExit in user code is a graph that does not load
        return describe(error, config.folder)


def _import_file(path: Path) -> ModuleType:
    """Import by path under a name of its own: a user's `api.py` or `utils.py` cannot collide with another's.

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
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
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
    """Whether importing `name` would give another file (a module of the standard library, one of ours)."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top == _OURS:
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() != path.resolve()


def _candidates(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)]


def _as_graph(found: Any, name: str) -> Pregel[Any, Any, Any, Any] | None:
    if isinstance(found, Pregel):
        return found
    if isinstance(found, StateGraph):
        return found.compile(name=name)
    return None


def describe(error: BaseException, folder: Path) -> str:
    """An exception of user code in one line: what, and where in the user's files."""
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}:{error.lineno})"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        within = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        outside = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
        chosen = (within or outside or frames)[-1:]
        if chosen:
            place = f" ({chosen[0].filename}:{chosen[0].lineno})"
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def _arguments(factory: Callable[..., Any], config: dict[str, Any], runtime: Any) -> tuple[list[Any], dict[str, Any]]:
    """What a factory asks for, by annotation or name: the config, a `ServerRuntime`, the user, or nothing."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return [], {}
    by_place: list[Any] = []
    by_name: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") or str(annotation)
        value: Any
        if "Runtime" in text or parameter.name == "runtime":
            if runtime is None:
                raise GraphLoadError(
                    "a factory that takes a ServerRuntime needs langgraph-sdk 0.3.5 or newer: upgrade it."
                )
            value = runtime
        elif "User" in text or parameter.name == "user":
            value = config["configurable"]["langgraph_auth_user"]
        elif "Config" in text or parameter.name == "config" or (index == 0 and parameter.default is parameter.empty):
            value = config
        elif parameter.default is parameter.empty:
            raise GraphLoadError(
                f'the factory {getattr(factory, "__name__", factory)} asks for "{parameter.name}". A factory may take '
                "nothing, config: RunnableConfig, runtime: ServerRuntime, or user."
            )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            value = parameter.default  # one behind it may be wanted
        else:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            by_place.append(value)
        else:
            by_name[parameter.name] = value
    return by_place, by_name


def _runtime(access: str, user: Any, context: Any) -> Any:
    """What a factory is told of its call; None where langgraph-sdk has no such thing, which only matters to a factory
    that asks for it."""
    if ExecutionRuntime is None:
        return None
    if access == "threads.create_run":
        return ExecutionRuntime(access_context="threads.create_run", user=user, store=None, context=context)  # type: ignore[arg-type]
    return ReadRuntime(access_context=access, user=user, store=None)  # type: ignore[arg-type]
