"""The sections `ui` and `ui_config` of `langgraph.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from threadlog.engine.user_code.langgraph_json import ConfigError, load
from threadlog.engine.user_code.ui_section import UiSection


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "agent.py").write_text("graph = None")
    (tmp_path / "project" / "ui.tsx").write_text("export default {};")
    (tmp_path / "outside.tsx").write_text("export default {};")
    return tmp_path / "project"


def loaded(project: Path, **sections: Any) -> tuple[UiSection | None, list[str]]:
    (project / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, **sections}))
    application = load(project)
    return application.ui, application.notices


def test_without_components_there_is_nothing_to_say(project: Path) -> None:
    assert loaded(project) == (None, [])
    assert loaded(project, ui={}, ui_config={"shared": ["x"]}) == (None, [])


def test_without_node_or_the_bundler_a_notice_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    _, (notice,) = loaded(project, ui={"agent": "./ui.tsx"})
    assert notice.startswith("the components of `ui` are not served: Node.js is needed")
    monkeypatch.setattr("shutil.which", lambda name: f"/somewhere/{name}")
    _, (notice,) = loaded(project, ui={"agent": "./ui.tsx"})
    assert notice.endswith("`npm install @langchain/langgraph-ui`")


def test_the_bundler_is_that_of_the_project_or_above_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/somewhere/{name}")
    for place in (project.parent, project):
        bundler = place / "node_modules/@langchain/langgraph-ui/dist/cli.mjs"
        bundler.parent.mkdir(parents=True)
        bundler.write_text("")
        ui, notices = loaded(project, ui={"agent": "./ui.tsx"}, ui_config={"shared": ["charts"]})
        assert ui is not None and not notices and not ui.missing
        assert (ui.bundler, ui.node, ui.shared) == (bundler, "/somewhere/node", ("charts",))
        assert dict(ui.sources) == {"agent": "./ui.tsx"}


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"ui": ["./ui.tsx"]}, "ui: expected an object"),
        ({"ui": {"agent": "./none.tsx"}}, "ui.agent: .*none.tsx is no file"),
        ({"ui": {"agent": 7}}, "ui.agent: 7 is no file"),
        ({"ui": {"agent": "../outside.tsx"}}, "ui.agent: .* is outside of"),
        ({"ui": {"../agent": "./ui.tsx"}}, "a name has letters"),
        ({"ui": {"agent": "./ui.tsx"}, "ui_config": {"shared": "charts"}}, "ui_config: expected"),
        ({"ui_config": {"other": 1}}, "ui_config.other: it is not known"),
        ({"ui": {"agent": "./ui.tsx"}, "ui_config": ["charts"]}, "ui_config: expected"),
    ],
)
def test_what_can_not_be_used_is_refused(project: Path, sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(project, **sections)
