"""Reading langgraph.json: what it gives, and what the errors say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.langgraph_json import ConfigError, load


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
            "store": {"index": {}},
        },
    )
    config = load(file)
    agent, other = config.graphs["agent"], config.graphs["other"]
    assert agent.is_file and agent.source == str(tmp_path / "agent.py") and agent.attribute == "graph"
    assert not other.is_file and other.source == "pkg.mod" and other.description == "does things"
    assert config.dependency_dirs == [tmp_path, tmp_path / "lib"]
    assert config.env == {"COLOR": "red", "EMPTY": ""}
    assert config.raw["store"] == {"index": {}}
    assert load(tmp_path).graphs.keys() == config.graphs.keys()


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOR", "blue")
    monkeypatch.delenv("SIZE", raising=False)
    load(write(tmp_path, {"graphs": {"a": "./agent.py:graph"}, "env": {"COLOR": "red", "SIZE": 3}})).apply_env()
    assert (os.environ["COLOR"], os.environ.pop("SIZE")) == ("blue", "3")


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
        ({"graphs": {"a": "./agent.py:graph"}, "env": "nope.env"}, "nope.env does not exist"),
        ({"graphs": {"a": "./agent.py:graph"}, "env": {"A": []}}, "env.A: expected a text"),
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
