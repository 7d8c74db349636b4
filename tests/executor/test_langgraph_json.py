"""Reading langgraph.json: what it gives, and what the errors say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from threadlog.engine.user_code.auth_section import AuthSection
from threadlog.engine.user_code.http_section import FLAGS
from threadlog.engine.user_code.langgraph_json import ConfigError, ThreadTtl, load
from threadlog.engine.user_code.langgraph_keys import KEYS, SECTIONS, VARIABLES, Treatment, keys_table, variables_table

DOCS = Path(__file__).parent.parent.parent / "docs" / "langgraph_json.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECTIONS, *VARIABLES):
        monkeypatch.delenv(name, raising=False)


def test_the_docs_list_every_key_and_variable_as_it_is() -> None:
    assert keys_table() in DOCS.read_text() and variables_table() in DOCS.read_text()


def test_every_flag_of_http_has_a_row() -> None:
    assert {f"http.disable_{name}" for name in FLAGS} <= KEYS.keys()


def write(folder: Path, content: Any) -> Path:
    file = folder / "langgraph.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    (folder / "agent.py").write_text("graph = 1")
    return file


def test_graphs_dependencies_and_env(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / ".env").write_text("COLOR=red\nEMPTY=\n")
    file = write(
        tmp_path,
        {
            "dependencies": [".", "./lib", "requests"],
            "graphs": {"agent": "./agent.py:graph", "other": {"path": "pkg.mod:make", "description": "does things"}},
            "env": ".env",
            "python_version": "3.12",
        },
    )
    config = load(file)
    agent, other = config.graphs["agent"], config.graphs["other"]
    assert agent.is_file and agent.source == str(tmp_path / "agent.py") and agent.attribute == "graph"
    assert not other.is_file and other.source == "pkg.mod" and other.description == "does things"
    assert config.dependency_dirs == [tmp_path, tmp_path / "lib"]
    assert config.env == {"COLOR": "red", "EMPTY": ""}
    assert config.raw["python_version"] == "3.12" and config.notices == []
    assert load(tmp_path).graphs.keys() == config.graphs.keys()


@pytest.mark.contract(179)
def test_the_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLOR", "SIZE", "EMPTY", "KEPT"):
        monkeypatch.setenv(name, "blue")
    (tmp_path / ".env").write_text("COLOR=red\nSIZE=3\nEMPTY=\nKEPT=no\n")
    load(write(tmp_path, {"graphs": {"a": "./agent.py:graph"}, "env": ".env"})).apply_env(keep=("KEPT",))
    assert [os.environ[name] for name in ("COLOR", "SIZE", "EMPTY", "KEPT")] == ["red", "3", "", "blue"]


@pytest.mark.contract(179)
def test_an_env_file_that_nobody_made_is_a_notice(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"graphs": {"a": "./agent.py:graph"}, "env": ".env"}))
    assert config.env == {}
    (notice,) = config.notices
    assert str(tmp_path / ".env") in notice and "does not exist" in notice


AGENT = {"graphs": {"a": "./agent.py:graph"}}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_treated_as_its_table_says(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    treatment, why = KEYS[key]
    content: dict[str, Any] = dict(AGENT)
    *outer, last = key.split(".")
    section = content
    for name in outer:
        section = section.setdefault(name, {})
    samples: dict[str, Any] = {"graphs": AGENT["graphs"], "dependencies": ["."], "env": {"A": "1"}, "http.cors": {}}
    samples |= {"store.ttl": {"default_ttl": 5}, "store.index": {"dims": 2, "embed": "test:model"}}
    samples["checkpointer.ttl"] = {"default_ttl": 1}
    samples["priority.path"] = samples["encryption.path"] = "./agent.py:priority"
    samples["migrations"] = {"a": [{"from": 1, "to": 2, "path": "./agent.py:to_2"}]}
    samples |= {
        "http.app": "./agent.py:graph",
        "http.mount_prefix": "/a",
        "http.middleware_order": "auth_first",
        "http.enable_custom_route_auth": True,
        "http.configurable_headers": {"includes": ["x"]},
        "http.logging_headers": {"includes": ["x"]},
        "webhooks": {"url": {"require_https": True}},
    }
    samples |= {
        "auth.path": "agent:auth",
        "auth.disable_studio_auth": True,
        "auth.openapi": {"security": [{"key": []}]},
    }
    samples |= {"auth.cache": {"cache_keys": ["authorization"]}, "auth.allow_langsmith_api_keys": True}
    if key == "ui":  # where it can be acted on
        (tmp_path / "node_modules/@langchain/langgraph-ui/dist").mkdir(parents=True)
        (tmp_path / "node_modules/@langchain/langgraph-ui/dist/cli.mjs").touch()
        monkeypatch.setattr("shutil.which", lambda name: name)
    samples |= {"ui": {"a": "./agent.py"}, "ui_config": {"shared": ["charts"]}}
    section[last] = True if last.startswith("disable_") else samples.get(key, {"other": "x"})
    if key.startswith("auth."):
        section["path"] = "agent:auth"
    file = write(tmp_path, content)
    match treatment:
        case Treatment.REFUSED:
            with pytest.raises(ConfigError) as refused:
                load(file)
            assert str(refused.value.key).startswith(key) and why in str(refused.value)
        case Treatment.IGNORED:
            (notice,) = load(file).notices
            assert "not acted on" in notice and key in notice
        case Treatment.HONOURED | Treatment.BUILD:
            assert load(file).notices == []


@pytest.mark.parametrize("value", [None, False, "", [], {}])
@pytest.mark.parametrize("key", ["auth", "encryption", "store", "unheard_of"])
def test_a_value_that_asks_for_nothing_is_no_asking(tmp_path: Path, key: str, value: Any) -> None:
    assert load(write(tmp_path, {**AGENT, key: value})).notices == []


def test_everything_not_acted_on_is_named_in_one_notice(tmp_path: Path) -> None:
    asks = {
        "http": {"app": "./agent.py:graph", "cors": {"max_age": 1}, "other": {"a": 1}, "disable_a2a": False},
        "store": {"other": {"dims": 3}},
        "checkpointer": {"ttl": {"default_ttl": 3}, "serde": {"allowed_json_modules": [["a"]]}, "backend": "default"},
        "unheard_of": 1,
    }
    (notice,) = load(write(tmp_path, {**AGENT, **asks})).notices
    named = notice.removeprefix("not acted on: ").split(" (")[0].split(", ")
    serde = "checkpointer.serde.allowed_json_modules"
    assert named == ["http.other", "store.other", serde, "unheard_of"]


def test_the_time_to_live_of_threads(tmp_path: Path) -> None:
    ttl = {"strategy": "keep_latest", "default_ttl": 60, "sweep_interval_minutes": 0.5, "sweep_limit": 7}
    read = load(write(tmp_path, {**AGENT, "checkpointer": {"ttl": ttl}}))
    assert read.thread_ttl == ThreadTtl("keep_latest", 60, 0.5, 7) and read.notices == []
    for nothing in ({}, {"checkpointer": {"ttl": None}}, {"checkpointer": {"ttl": {"strategy": "delete"}}}):
        assert load(write(tmp_path, {**AGENT, **nothing})).thread_ttl == ThreadTtl("delete", None, 5.0, 1000)


@pytest.mark.parametrize(
    "ttl",
    [
        7, {"default_ttl": "1"}, {"default_ttl": 0}, {"strategy": "shrink"}, {"sweep_limit": 0}, {"sweep_limit": 1.5},
        {"sweep_interval_minutes": -1}, {"default": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_time_to_live_that_is_none_is_named(tmp_path: Path, ttl: Any) -> None:
    with pytest.raises(ConfigError, match=r"checkpointer\.ttl"):
        load(write(tmp_path, {**AGENT, "checkpointer": {"ttl": ttl}}))


@pytest.mark.parametrize("variable", [*SECTIONS, *VARIABLES])
def test_a_variable_is_treated_like_the_key_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/below" if variable == "MOUNT_PREFIX" else '{"other": "./x.py:y"}')
    treatment = VARIABLES[variable][0] if variable in VARIABLES else KEYS[SECTIONS[variable]][0]
    if variable == "LANGGRAPH_AUTH":
        monkeypatch.setenv(variable, '{"path": "agent:auth"}')
        assert load(write(tmp_path, AGENT)).auth == AuthSection("agent", "auth", False)
        monkeypatch.setenv(variable, '{"unheard_of": 1}')
    file = write(tmp_path, AGENT)
    if treatment is Treatment.REFUSED:
        with pytest.raises(ConfigError, match=variable):
            load(file)
    elif variable in VARIABLES and treatment in (Treatment.HONOURED, Treatment.NEEDLESS):
        assert load(file).notices == []
    elif treatment is Treatment.HONOURED:
        with pytest.raises(ConfigError, match="other"):  # it has no such key
            load(file)
    else:
        (notice,) = load(file).notices
        assert variable in notice


@pytest.mark.parametrize("value", ["", "false", "False", "0", "off"])
def test_a_variable_that_is_switched_off_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    for variable, (treatment, _) in VARIABLES.items():
        if treatment in (Treatment.REFUSED, Treatment.IGNORED):
            monkeypatch.setenv(variable, value)
    assert load(write(tmp_path, AGENT)).notices == []


def test_auth_in_the_env_file_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LANGGRAPH_AUTH_TYPE"):
        load(write(tmp_path, {**AGENT, "env": {"LANGGRAPH_AUTH_TYPE": "langsmith"}}))
    assert load(write(tmp_path, {**AGENT, "env": {"LANGGRAPH_AUTH_TYPE": "noop"}})).notices == []


def test_cors_comes_from_the_file_or_else_from_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_HTTP", '{"cors": {"allow_origins": ["https://variable"]}}')
    assert load(write(tmp_path, AGENT)).http.cors == {"allow_origins": ["https://variable"]}
    assert load(write(tmp_path, {**AGENT, "http": {"cors": {"max_age": 3}}})).http.cors == {"max_age": 3}
    monkeypatch.setenv("LANGGRAPH_HTTP", "{")
    with pytest.raises(ConfigError, match="LANGGRAPH_HTTP is not JSON"):
        load(write(tmp_path, AGENT))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ([], "JSON object"),
        ({}, "graphs: name at least one"),
        ({"graphs": {}}, "graphs: name at least one"),
        ({"graphs": {"a": "agent.py"}}, 'graphs.a: "agent.py" does not name an object'),
        ({"graphs": {"a": "./missing.py:graph"}}, "missing.py does not exist"),
        ({"graphs": {"a": "./agent.ts:graph"}}, "no Python file"),
        ({"graphs": {"a": 3}}, "graphs.a: expected"),
        ({"graphs": {"a": {"path": "./agent.py:graph", "description": 1}}}, "graphs.a.description"),
        ({"graphs": {"a": "./agent.py:graph"}, "dependencies": "."}, "dependencies: expected a list"),
        ({"graphs": {"a": "./agent.py:graph"}, "dependencies": ["./nowhere"]}, '"./nowhere" is no folder'),
        ({"graphs": {"a": "./agent.py:graph"}, "http": {"cors": {"allow_origins": "*"}}}, "expected a list of texts"),
        ({"graphs": {"a": "./agent.py:graph"}, "http": {"cors": {"max_age": True}}}, "expected a number of seconds"),
        ({"graphs": {"a": "./agent.py:graph"}, "http": {"cors": {"allow_origin_regex": "("}}}, "no regular expression"),
        ({"graphs": {"a": "./agent.py:graph"}, "http": {"cors": {"origins": []}}}, "http.cors.origins: there is no"),
        ({"graphs": {"a": "./agent.py:graph"}, "http": []}, "http: expected an object"),
        ({"graphs": {"a": "./agent.py:graph"}, "env": {"A": []}}, "env.A: expected a text"),
        ({"graphs": {"a": "./agent.py:graph"}, "auth": {"disable_studio_auth": True}}, "auth.path: expected the place"),
        ({"graphs": {"a": "./agent.py:graph"}, "auth": {"path": "./no.py:auth"}}, "no.py does not exist"),
        ({"graphs": {"a": "./agent.py:graph"}, "auth": {"path": "a:b", "cache": {"ttl_seconds": 1}}}, "cache_keys"),
        ({"graphs": {"a": "./agent.py:graph"}, "auth": {"path": "a:b", "cache": {"ttl": 1}}}, "auth.cache.ttl: there"),
        (
            {"graphs": {"a": "./agent.py:graph"}, "auth": {"path": "a:b", "openapi": {"security": {}}}},
            "expected a list",
        ),
    ],
)
def test_errors_name_the_file_the_key_and_what_to_do(tmp_path: Path, content: Any, says: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        load(file)
    assert str(file) in str(error.value) and says in str(error.value)


def test_a_missing_file_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path)
