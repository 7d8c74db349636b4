"""The `langgraph.json` of a user's project, read and checked. Imports nothing heavy: every process reads it at start.

Keys are those of the LangGraph CLI (contract 9.2). Only the ones threadlog acts on are modelled; what becomes of the
others `engine.user_code.langgraph_keys` says. All are kept in `raw`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from threadlog.engine.user_code.auth_section import AuthSection, Wrong, options_of
from threadlog.engine.user_code.http_section import CodePlace, HttpSection, place_of, read_http
from threadlog.engine.user_code.langgraph_keys import SECTIONS, Treatment, asked_in, sections_of, treatments
from threadlog.engine.user_code.migrations_section import MigrationStep, read_migrations
from threadlog.engine.user_code.store_config import StoreConfig, StoreConfigError, store_config
from threadlog.engine.user_code.ui_section import UiSection, read_ui
from threadlog.engine.user_code.webhook_rules import WebhookRules, webhook_rules


class ConfigError(Exception):
    """The file cannot be used. The message names the file, the key and what to do."""

    def __init__(self, path: Path, key: str | None, problem: str) -> None:
        super().__init__(f"{path}: {f'{key}: ' if key else ''}{problem}")
        self.path, self.key = path, key


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """Where a graph is: `source` is a Python file or a dotted module, `attribute` the name in it."""

    graph_id: str
    source: str
    attribute: str
    is_file: bool
    description: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadTtl:
    """`checkpointer.ttl`: what becomes of threads that are given no ttl, and how expired threads are looked for."""

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_minutes: float | None = None
    sweep_interval_minutes: float = 5.0
    sweep_limit: int = 1000


@dataclass(frozen=True, slots=True)
class LanggraphJson:
    """A checked file. Paths are absolute; `env` is what the file asks to have in the environment.

    `thread_ttl`: the keys of `checkpointer.ttl`; `priority`, `encryption`: where the application's `Priority` and
    `Encryption` are; `auth`: None where nothing asks for authentication. `notices`: sentences that a user should read
    when a server starts.
    """

    path: Path
    graphs: dict[str, GraphSpec]
    dependency_dirs: list[Path] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    store: StoreConfig = field(default_factory=StoreConfig)
    http: HttpSection = field(default_factory=HttpSection)
    priority: CodePlace | None = None
    thread_ttl: ThreadTtl = field(default_factory=lambda: ThreadTtl())
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    migrations: Mapping[str, tuple[MigrationStep, ...]] = field(default_factory=dict)
    auth: AuthSection | None = None
    encryption: CodePlace | None = None
    ui: UiSection | None = None
    notices: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def apply_env(self, keep: Collection[str] = ()) -> None:
        """Put `env` into this process's environment, over what is there; variables named in `keep` stay as they are."""
        os.environ.update({name: value for name, value in self.env.items() if name not in keep})


def load(path: str | Path) -> LanggraphJson:
    """Read and check the file; where there is none, the variables by which LangGraph's command line hands an
    application to an image: `LANGSERVE_GRAPHS` and those of the sections.

    Raises:
        ConfigError: it is missing, is no JSON object, one of its keys cannot be used, or it (or the environment) asks
            for something that is refused.
    """
    file = Path(path).expanduser().resolve()
    if file.is_dir():
        file = file / "langgraph.json"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if graphs_alone := os.environ.get("LANGSERVE_GRAPHS", "").strip():
            return _checked(file, {"graphs": _json_of_variable(file, "LANGSERVE_GRAPHS", graphs_alone)})
        raise ConfigError(
            file, None, "there is no such file. Start threadlog in the folder that has it, or pass --config."
        ) from None
    except OSError as error:
        raise ConfigError(file, None, f"it cannot be read ({error.strerror}).") from None
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(file, None, f"this is not JSON ({error}).") from None
    if not isinstance(raw, dict):
        raise ConfigError(file, None, 'expected a JSON object such as {"graphs": {"agent": "./agent.py:graph"}}.')
    return _checked(file, raw)


def _json_of_variable(file: Path, variable: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(file, variable, f"this is not JSON ({error}).") from None


def _checked(file: Path, raw: dict[str, Any]) -> LanggraphJson:
    notices: list[str] = []
    graphs = _graphs(file, raw.get("graphs"))
    env = _env(file, raw.get("env"), notices)
    environment = {**os.environ, **env}
    sections = _check_treatments(file, raw, environment, notices)
    http = raw.get("http", sections.get("LANGGRAPH_HTTP"))
    ui = read_ui(
        raw.get("ui", sections.get("LANGGRAPH_UI")),
        raw.get("ui_config", sections.get("LANGGRAPH_UI_CONFIG")),
        file.parent,
        lambda key, problem: ConfigError(file, key, problem),
    )
    if ui is not None and ui.missing:
        notices.append(f"the components of `ui` are not served: {ui.missing}")
    return LanggraphJson(
        path=file,
        graphs=graphs,
        dependency_dirs=_dependency_dirs(file, raw.get("dependencies", [])),
        env=env,
        store=_store(file, raw.get("store", sections.get("LANGGRAPH_STORE"))),
        http=read_http(
            http,
            file.parent,
            environment,
            lambda key, problem: ConfigError(file, key, problem),
        ),
        priority=_code_place(file, "priority", raw.get("priority", sections.get("LANGGRAPH_PRIORITY"))),
        thread_ttl=_thread_ttl(file, raw.get("checkpointer", sections.get("LANGGRAPH_CHECKPOINTER"))),
        webhooks=_webhooks(file, raw.get("webhooks", sections.get("LANGGRAPH_WEBHOOKS")), http, environment),
        migrations=read_migrations(
            raw.get("migrations"), graphs, file.parent, lambda key, problem: ConfigError(file, key, problem)
        ),
        auth=_auth(file, raw.get("auth") or sections.get("LANGGRAPH_AUTH")),
        encryption=_code_place(file, "encryption", raw.get("encryption") or sections.get("LANGGRAPH_ENCRYPTION")),
        ui=ui,
        notices=notices,
        raw=raw,
    )


def _check_treatments(
    file: Path, raw: Mapping[str, Any], environment: Mapping[str, str], notices: list[str]
) -> dict[str, Any]:
    """Refuse what has to be refused, note what is not acted on; returns the sections that variables stand for."""
    try:
        sections = sections_of(environment)
    except ValueError as error:
        raise ConfigError(file, None, str(error)) from None
    found = list(treatments(raw))
    for variable, section in sections.items():
        inside = treatments({SECTIONS[variable]: section})
        found += [(f"{variable} ({key})", treatment, why) for key, treatment, why in inside]
    found += asked_in(environment)
    for name, treatment, why in found:
        if treatment is Treatment.REFUSED:
            raise ConfigError(file, name, f"{why} Remove it only if that is what you want.")
    ignored = [name for name, treatment, _ in found if treatment is Treatment.IGNORED]
    if ignored:
        notices.append(f"not acted on: {', '.join(ignored)} (docs/langgraph_json.md says what that means)")
    return sections


def _store(file: Path, section: Any) -> StoreConfig:
    try:
        return store_config(section, file.parent)
    except StoreConfigError as error:
        raise ConfigError(file, error.key, str(error)) from None


def _code_place(file: Path, key: str, section: Any) -> CodePlace | None:
    """The object that `path` of a section names."""
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ConfigError(file, key, f'expected an object such as {{"path": "./{key}.py:{key}"}}.')
    if not section.get("path"):
        return None
    return place_of(section["path"], file.parent, f"{key}.path", lambda key, what: ConfigError(file, key, what))


_CENTURY = 100 * 365 * 24 * 60  # minutes, as `engine.domain.expiry`
_MINUTES = "a number of minutes, at most a hundred years"


def _thread_ttl(file: Path, checkpointer: Any) -> ThreadTtl:
    if checkpointer is not None and not isinstance(checkpointer, dict):
        raise ConfigError(file, "checkpointer", 'expected an object such as {"ttl": {"default_ttl": 43200}}.')
    given = (checkpointer or {}).get("ttl") or {}
    if not isinstance(given, dict):
        raise ConfigError(file, "checkpointer.ttl", 'expected an object such as {"default_ttl": 43200}.')
    known = ("strategy", "default_ttl", "sweep_interval_minutes", "sweep_limit")
    if unknown := [name for name in given if name not in known]:
        there = f"there is no such key. There are: {', '.join(known)}."
        raise ConfigError(file, f"checkpointer.ttl.{unknown[0]}", there)
    chosen: dict[str, Any] = {}
    if (strategy := given.get("strategy")) is not None:
        if strategy not in ("delete", "keep_latest"):
            raise ConfigError(file, "checkpointer.ttl.strategy", "expected delete or keep_latest.")
        chosen["strategy"] = strategy
    for name, field_, kinds, most, what in (
        ("default_ttl", "default_minutes", (int, float), _CENTURY, _MINUTES),
        ("sweep_interval_minutes", "sweep_interval_minutes", (int, float), _CENTURY, _MINUTES),
        ("sweep_limit", "sweep_limit", (int,), 2**31 - 1, "a number of threads"),
    ):
        if (value := given.get(name)) is not None:
            if type(value) not in kinds or not 0 < value <= most:
                raise ConfigError(file, f"checkpointer.ttl.{name}", f"expected {what}, more than 0.")
            chosen[field_] = value
    return ThreadTtl(**chosen)


def _webhooks(file: Path, section: Any, http: Any, environment: Mapping[str, str]) -> WebhookRules:
    try:
        return webhook_rules(section, http, environment)
    except ValueError as error:
        key, _, problem = str(error).partition(": ")
        raise ConfigError(file, key, problem) from None


def _graphs(file: Path, value: Any) -> dict[str, GraphSpec]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(file, "graphs", 'name at least one graph: {"agent": "./agent.py:graph"}.')
    return {name: _graph(file, name, spec) for name, spec in value.items()}


def _graph(file: Path, name: str, spec: Any) -> GraphSpec:
    key, description, target = f"graphs.{name}", None, spec
    if isinstance(spec, dict):
        target, description = spec.get("path"), spec.get("description")
        if description is not None and not isinstance(description, str):
            raise ConfigError(file, f"{key}.description", "expected a text.")
    if not name or "\x00" in name:
        raise ConfigError(file, "graphs", "a graph's name must not be empty.")
    if not isinstance(target, str):
        raise ConfigError(file, key, 'expected "path/to/file.py:name", "package.module:name", or {"path": …}.')
    return GraphSpec(name, *_place(file, key, target), description)


def _auth(file: Path, value: Any) -> AuthSection | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise ConfigError(file, "auth", 'expected an object such as {"path": "./auth.py:auth"}.')
    path = value.get("path")
    if not isinstance(path, str) or not path:
        raise ConfigError(file, "auth.path", 'expected the place of an Auth object, such as "./auth.py:auth".')
    try:
        options = options_of(value)
    except Wrong as error:
        raise ConfigError(file, f"auth.{error.key}", error.problem) from None
    return AuthSection(*_place(file, "auth.path", path), **options)


def _place(file: Path, key: str, target: str) -> tuple[str, str, bool]:
    """Returns `(source, attribute, is_file)` of what is named as `path/to/file.py:name` or `package.module:name`."""
    source, colon, attribute = target.rpartition(":")
    if not colon or not source or not attribute.isidentifier():
        raise ConfigError(
            file, key, f'"{target}" does not name an object. Write "path/to/file.py:name" or "package.module:name".'
        )
    is_file = "/" in source or "\\" in source or source.endswith((".py", ".js", ".ts", ".mjs", ".mts"))
    if not is_file:
        return source, attribute, False
    if not source.endswith(".py"):
        raise ConfigError(file, key, f'"{source}" is no Python file. threadlog runs Python graphs only.')
    location = (file.parent / source).resolve()
    if not location.is_file():
        raise ConfigError(file, key, f"{location} does not exist. Correct the path (it is relative to this file).")
    return str(location), attribute, True


def _dependency_dirs(file: Path, value: Any) -> list[Path]:
    """Local folders among the dependencies, in order; packages from an index are installed by the user, not by us."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(file, "dependencies", 'expected a list of texts such as ["."].')
    folders = []
    for item in value:
        if item != "." and not item.startswith(("./", "../", "/", ".\\", "..\\")):
            continue
        folder = (file.parent / item).resolve()
        if not folder.is_dir():
            raise ConfigError(file, "dependencies", f'"{item}" is no folder ({folder}). Correct or remove it.')
        folders.append(folder)
    return folders


def _env(file: Path, value: Any, notices: list[str]) -> dict[str, str]:
    if value is None or value == "":
        return {}
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(item, str | int | float | bool):
                raise ConfigError(file, f"env.{name}", "expected a text.")
        return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
    if not isinstance(value, str):
        raise ConfigError(file, "env", 'expected the path of a .env file or an object {"NAME": "value"}.')
    source = (file.parent / value).resolve()
    if not source.is_file():
        # Repositories name the .env that each of their users makes; what in it is needed, the application says.
        notices.append(f"{source}, which `env` names, does not exist: started without it")
        return {}
    from dotenv import dotenv_values

    return {name: item for name, item in dotenv_values(source).items() if item is not None}
