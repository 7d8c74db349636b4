"""`threadlog dockerfile` and `threadlog build`: what of `langgraph.json` is in the Dockerfile, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from threadlog.deploy.cli import main
from threadlog.deploy.commands.image import build, image_of, secrets_in_context
from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson, load

GRAPHS = {"graphs": {"a": "./agent.py:graph"}}


def application(folder: Path, **keys: Any) -> LanggraphJson:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.py").write_text("graph = 1")
    (folder / "langgraph.json").write_text(json.dumps({**GRAPHS, **keys}))
    return load(folder)


def lines_of(app: LanggraphJson, **options: Any) -> list[str]:
    return image_of(app, **options).dockerfile.splitlines()


def test_the_keys_for_building_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("")
    lines = lines_of(
        application(
            tmp_path, python_version="3.13", image_distro="bullseye", dockerfile_lines=["RUN some", "ENV A=1"],
            pip_config_file="./pip.conf", pip_installer="uv", dependencies=["httpx>=0.2", "."],
        )
    )  # fmt: skip
    assert lines[0] == "FROM python:3.13-slim-bullseye"
    assert lines[2:4] == ["RUN some", "ENV A=1"]
    assert 'COPY ["pip.conf", "/etc/pip.conf"]' in lines and "RUN pip install uv" in lines
    assert """RUN uv pip install --python "$(command -v python)" 'httpx>=0.2'""" in lines
    assert lines[-1] == 'CMD ["threadlog", "up"]'


def test_a_base_image_is_the_options_or_the_files(tmp_path: Path) -> None:
    app = application(tmp_path, base_image="mine:1")
    assert lines_of(app)[0] == "FROM mine:1"
    assert lines_of(app, base_image="other")[0] == "FROM other"
    assert any("'threadlog @ file:///x.whl'" in line for line in lines_of(app, requirement="threadlog @ file:///x.whl"))


def test_local_folders_are_installed_where_they_are_packages(tmp_path: Path) -> None:
    shared, plain = tmp_path / "shared lib", tmp_path / "app" / "plain"
    shared.mkdir()
    plain.mkdir(parents=True)
    (shared / "pyproject.toml").write_text("[project]\nname = 'shared'\n")
    (plain / "requirements.txt").write_text("tabulate\n")
    app = application(tmp_path / "app", dependencies=[".", "../shared lib", "./plain"])
    image = image_of(app)
    lines = image.dockerfile.splitlines()
    assert image.context == tmp_path
    code = lines.index("COPY --chown=threadlog . /srv/app")
    assert 'COPY ["app/plain/requirements.txt", "/tmp/requirements/app/plain/requirements.txt"]' in lines[:code]
    assert "RUN pip install -e '/srv/app/shared lib'" in lines[code:]
    assert "WORKDIR /srv/app/app" in lines and any(
        "THREADLOG_CONFIG=/srv/app/app/langgraph.json" in line for line in lines
    )


@pytest.mark.parametrize(
    ("pyproject", "installed"),
    [
        ("[project]\nname = 'x'\n", True),
        ("[tool.poetry]\nname = 'x'\n", True),
        ("[build-system]\nrequires = ['flit_core']\n", True),
        ("# like [project]\n[tool.ruff]\nline-length = 120\n", False),
    ],
)
def test_a_pyproject_of_any_builder_is_a_package(tmp_path: Path, pyproject: str, installed: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(pyproject)
    app = application(tmp_path, dependencies=["."])
    assert ("RUN pip install -e /srv/app" in lines_of(app)) is installed
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(ConfigError, match="this is not TOML"):
        image_of(app)


def test_what_is_not_acted_on_is_said(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("")
    (tmp_path / "pip.conf").write_text("")
    keys = {"node_version": "20", "api_version": "0.9", "source": {"kind": "uv"}, "dependencies": ["."]}
    image = image_of(application(tmp_path, **keys, pip_config_file="pip.conf", pip_installer="uv"))
    *unused, last = image.notices
    assert unused == [f"{key} is not acted on" for key in ("node_version", "api_version", "source")]
    assert last.startswith("uv does not read the pip_config_file: choose the pip_installer pip")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"python_version": "3.9"}, "python_version: expected one of 3.11, 3.12, 3.13"),
        ({"image_distro": "wolfi"}, "image_distro: there are debian, bookworm, bullseye"),
        ({"pip_installer": "conda"}, "pip_installer: expected one of auto, pip, uv"),
        ({"dockerfile_lines": "RUN x"}, "dockerfile_lines: expected a list"),
        ({"pip_config_file": "./nowhere.conf"}, "is no file below"),
        ({"base_image": ["x"]}, "base_image: expected the name"),
        (
            {"source": {"kind": "uv"}},
            "source: there is no installing from it here. Name what to install in dependencies",
        ),
    ],
)
def test_what_can_not_be_built_is_said(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        image_of(application(tmp_path, **keys))
    assert says in str(refused.value)
    shown = CliRunner().invoke(main, ["dockerfile", "--config", str(tmp_path)])
    assert shown.exit_code == 1 and says in shown.output


@pytest.mark.parametrize(
    ("ignore", "secret"),
    [
        (None, True), ("", True), ("# .env\n", True), (".env\n", False), ("**/.env\n", False), ("*.env\n", False),
        ("/.env\n", False), (".env\n!.env\n", True), ("other\n", True),
    ],
)  # fmt: skip
def test_secrets_do_not_get_into_an_image_unasked(tmp_path: Path, ignore: str | None, secret: bool) -> None:
    app = application(tmp_path, env=".env")
    (tmp_path / ".env").write_text("KEY=1")
    if ignore is not None:
        (tmp_path / ".dockerignore").write_text(ignore)
    assert (secrets_in_context(app) is not None) is secret
    if secret:
        shown = CliRunner().invoke(main, ["build", "-t", "x", "--config", str(tmp_path)])
        assert shown.exit_code == 1 and "with the secrets in it" in shown.output


def test_docker_gets_the_text_the_tag_and_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        called.update(command=command, **options)
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    image = image_of(application(tmp_path))
    assert build(image, "me:1", ["--pull", "--no-cache"], run=run) == 7
    assert called["command"] == ["docker", "build", "-t", "me:1", "-f", "-", "--pull", "--no-cache", str(tmp_path)]
    assert called["input"] == image.dockerfile.encode()


def test_it_is_written_to_a_file_or_shown(tmp_path: Path) -> None:
    app = application(tmp_path)
    (tmp_path / ".dockerignore").write_text("")
    shown = CliRunner().invoke(main, ["dockerfile", "--config", str(tmp_path)])
    assert shown.exit_code == 0 and shown.output == image_of(app).dockerfile
    with CliRunner().isolated_filesystem(tmp_path) as elsewhere:
        shown = CliRunner().invoke(main, ["dockerfile", "-", "--config", str(tmp_path)])
        assert shown.output == image_of(app).dockerfile and not list(Path(elsewhere).iterdir())
    written = tmp_path / "Dockerfile"
    said = CliRunner().invoke(main, ["dockerfile", str(written), "--config", str(tmp_path)])
    assert written.read_text() == shown.output and f"docker build -t NAME -f {written} {tmp_path}" in said.output


def test_an_image_of_langgraphs_own_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent.py").write_text("graph = 1")
    monkeypatch.setenv(
        "LANGSERVE_GRAPHS", json.dumps({"a": {"path": f"{tmp_path}/agent.py:graph", "description": "d"}})
    )
    monkeypatch.setenv("LANGGRAPH_HTTP", '{"cors": {"max_age": 3}}')
    app = load(tmp_path)
    assert app.graphs["a"].source == f"{tmp_path}/agent.py" and app.graphs["a"].description == "d"
    assert app.http.cors == {"max_age": 3}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"b": "./agent.py:graph"}}))
    assert load(tmp_path).graphs.keys() == {"b"}
    (tmp_path / "langgraph.json").unlink()
    monkeypatch.setenv("LANGSERVE_GRAPHS", "{")
    with pytest.raises(ConfigError, match="LANGSERVE_GRAPHS: this is not JSON"):
        load(tmp_path)
