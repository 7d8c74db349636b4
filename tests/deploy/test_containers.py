"""The container files set what the processes read, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from threadlog.deploy.cli import main
from threadlog.deploy.settings import Settings, env_name

ROOT = Path(__file__).parent.parent.parent
OURS = {"api", "engine", "executor", "derive"}
OF_THE_APPLICATION = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}


@pytest.fixture(scope="module")
def compose() -> dict[str, dict[str, dict[str, object]]]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_variable_of_our_services_is_a_setting(compose) -> None:
    known = {env_name(field) for field in Settings.model_fields} | OF_THE_APPLICATION
    for name in OURS:
        assert set(compose["services"][name]["environment"]) <= known, name


def test_our_services_share_one_kafka_and_one_database(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        service = compose["services"][name]
        for variable, value in service["environment"].items():
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value))
        settings = Settings.load()
        assert settings.kafka_bootstrap_servers == "kafka:9092"
        assert settings.database_uri == "postgresql://threadlog:threadlog@postgres:5432/threadlog"
        assert settings.partition_count == 64
        assert set(service["depends_on"]) == {"kafka", "postgres"}


def test_our_services_run_commands_that_exist(compose) -> None:
    for name in OURS:
        program, command = compose["services"][name]["command"]
        assert (program, command) == ("threadlog", name)
        assert command in main.commands


def test_kafka_is_the_version_the_tests_run_against(compose) -> None:
    tested = re.search(r"<kafka\.version>(.*?)</kafka\.version>", (ROOT / "deploy/kafka/pom.xml").read_text())
    assert tested is not None
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{tested[1]}"


def test_the_image_sets_only_settings() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    known = {env_name(field) for field in Settings.model_fields}
    assert set(re.findall(r"THREADLOG_\w+", dockerfile)) <= known
    assert 'CMD ["threadlog", "up"]' in dockerfile


def _client() -> list[str] | None:
    """`docker compose`, or the older `docker-compose`; neither needs a daemon to check a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


@pytest.mark.server
def test_docker_compose_accepts_the_file() -> None:
    client = _client()
    if client is None:
        pytest.skip("no docker compose client here")
    checked = subprocess.run(
        [*client, "-f", "docker-compose.yml", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
