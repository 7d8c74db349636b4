"""The user's graphs: imported once per process, made anew per run where they are factories."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from threadlog.engine.agents.function import as_graph, is_async
from threadlog.engine.executor.langgraph_internals import ExecutionRuntime, ReadRuntime
from threadlog.engine.executor.state_migrations import StateMigrations, load_migrations
from threadlog.engine.user_code.importing import describe_error, extend_sys_path, import_source, without_folders
from threadlog.engine.user_code.langgraph_json import GraphSpec, LanggraphJson

_WRITES = ("threads.create_run", "threads.update")
_RUNTIME = "__pregel_runtime"
UNNAMED = (None, "", "LangGraph")  # what a graph is called that was compiled without a name


def graph_name(graph: Pregel[Any, Any, Any, Any] | None, graph_id: str) -> str:
    """What a graph is called: the name it was compiled with, its id where it was given none."""
    return graph_id if graph is None or graph.name in UNNAMED else str(graph.name)


class GraphLoadError(Exception):
    """A graph cannot be had from the user's code. The message names the graph, the place and the reason.

    Clients see it, so of the server's paths it has the file and its folder only; the log has them whole.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_folders(message))


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph as found: `compiled`, or a `factory` called for each use; `error` when the code does not load."""

    spec: GraphSpec
    compiled: Pregel[Any, Any, Any, Any] | None = None
    factory: Callable[..., Any] | None = None
    error: str | None = None
    migrations: StateMigrations = field(default_factory=lambda: StateMigrations(""))

    @property
    def graph_id(self) -> str:
        return self.spec.graph_id

    @asynccontextmanager
    async def open(
        self, config: dict[str, Any], *, access: str = "threads.create_run", context: Any = None, store: Any = None
    ) -> AsyncIterator[Pregel[Any, Any, Any, Any]]:
        """The graph for one use; what a factory opened is closed afterwards.

        `access` is why: `threads.create_run`, `threads.update`, or `assistants.read` (see `ServerRuntime`). `store`:
        the one a factory is given.

        Raises:
            GraphLoadError: the code did not load, or the factory returned something that is no graph.
        """
        if self.compiled is not None:
            yield self.compiled
            return
        if self.factory is None:
            raise GraphLoadError(self.error or f"graph {self.graph_id} is not loaded")
        runtime = _runtime(access, (config.get("configurable") or {}).get("langgraph_auth_user"), context, store)
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
            agent = " If it is meant as an agent, call its first parameter messages or input."
            raise GraphLoadError(
                f"graph {self.graph_id}: the factory {self.spec.attribute} in {self.spec.source} returned a "
                f"{type(made).__name__}. Return a StateGraph, a compiled graph or an entrypoint."
                f"{agent if is_async(self.factory) else ''}"
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
    extend_sys_path(config)
    modules: dict[str, ModuleType | str] = {}
    return Graphs({name: _migrating(_load(spec, config, modules), config) for name, spec in config.graphs.items()})


def _migrating(graph: LoadedGraph, config: LanggraphJson) -> LoadedGraph:
    """The graph with its migrations; broken if these do not load: it could not go on with its threads."""
    steps = config.migrations.get(graph.graph_id)
    if not steps:
        return replace(graph, migrations=StateMigrations(graph.graph_id))
    try:
        return replace(graph, migrations=load_migrations(graph.graph_id, steps))
    except ValueError as error:
        return LoadedGraph(graph.spec, error=graph.error or f"graph {graph.graph_id}: its migrations: {error}")


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
    return loaded(spec, found, config.folder)


def loaded(spec: GraphSpec, found: Any, folder: Path) -> LoadedGraph:
    """The graph that an application's object is, or makes; `folder`: the application's, for errors."""
    try:
        graph = _as_graph(found, spec.graph_id)
    except Exception as error:
        return LoadedGraph(spec, error=f"graph {spec.graph_id} cannot be compiled: {describe_error(error, folder)}")
    if graph is not None:
        return LoadedGraph(spec, compiled=graph)
    try:
        agent = as_graph(found, spec.graph_id)
    except Exception as error:
        return LoadedGraph(spec, error=f"graph {spec.graph_id}: {spec.attribute} in {spec.source} {error}.")
    if agent is not None:
        return LoadedGraph(spec, compiled=agent)
    if callable(found):
        return LoadedGraph(spec, factory=found)
    return LoadedGraph(
        spec,
        error=f"graph {spec.graph_id}: {spec.attribute} in {spec.source} is a {type(found).__name__}. Expected a "
        "StateGraph, a compiled graph, an entrypoint, a function that returns one, or an agent: an async function "
        "whose first parameter is called messages or input.",
    )


def _import(spec: GraphSpec, config: LanggraphJson) -> ModuleType | str:
    """The module, or why there is none."""
    try:
        return import_source(spec.source, is_file=spec.is_file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a SystemExit in user code is a graph that does not load
        return describe_error(error, config.folder)


def _candidates(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)]


def _as_graph(found: Any, name: str) -> Pregel[Any, Any, Any, Any] | None:
    if isinstance(found, Pregel):
        return found
    if isinstance(found, StateGraph):
        return found.compile(name=name)
    return None


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


def _runtime(access: str, user: Any, context: Any, store: Any) -> Any:
    """What a factory is told of its call; None where langgraph-sdk has no such thing, which only matters to a factory
    that asks for it."""
    if ExecutionRuntime is None:
        return None
    if access == "threads.create_run":
        return ExecutionRuntime(access_context="threads.create_run", user=user, store=store, context=context)
    return ReadRuntime(access_context=access, user=user, store=store)  # type: ignore[arg-type]
