"""Settings come from the environment, travel to child processes unchanged, and are all in the docs."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from threadlog.deploy.cli import main
from threadlog.deploy.settings import BadSettings, Settings, env_name
from threadlog.deploy.settings_table import table

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(env_name(field), raising=False)
    monkeypatch.delenv("POSTGRES_URI", raising=False)


def test_the_docs_list_every_setting_as_it_is() -> None:
    assert table() in (ROOT / "docs" / "settings.md").read_text()


def test_without_any_environment_the_defaults_work() -> None:
    settings = Settings.load()
    assert (settings.host, settings.port) == ("127.0.0.1", 2024)
    assert settings.executors is None and settings.most_executors >= 1
    assert settings.partition_count == 16


def test_kafka_has_more_partitions_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    assert Settings.load().partition_count == 64
    monkeypatch.setenv("THREADLOG_PARTITIONS", "4")
    assert Settings.load().partition_count == 4


def test_both_names_of_the_database_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_URI", "postgres://there/db")
    assert Settings.load().database_uri == "postgres://there/db"
    monkeypatch.setenv("DATABASE_URI", "postgresql://here/db")
    assert Settings.load().database_uri == "postgresql://here/db"


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADLOG_PORT", "1")
    assert Settings.load(port=2, host=None).port == 2


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(
        database_uri="postgresql://here/db",
        cors_allow_origins=["https://a.example", "https://b.example"],
        bg_job_timeout_secs=0.5,
        reload=True,
        log_level="warn",
    )
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    assert Settings.load().model_dump(exclude={"partitions"}) == settings.model_dump(exclude={"partitions"})


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("THREADLOG_PORT", "http", "THREADLOG_PORT=http: input should be a valid integer"),
        ("THREADLOG_PARTITIONS", "0", "THREADLOG_PARTITIONS=0: input should be greater than or equal to 1"),
        ("DATABASE_URI", "mysql://x", "DATABASE_URI=mysql://x: must begin with postgres:// or postgresql://"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL="),
    ],
)
def test_a_bad_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as raised:
        Settings.load()
    assert complaint in str(raised.value)


def test_every_option_of_up_has_the_environment_variable_of_its_setting() -> None:
    options = {p.name: p for p in main.commands["up"].params if isinstance(p, click.Option) and p.name != "help"}
    assert set(options) == {"host", "port", "config", "data_dir", "executors", "reload"}
    for name, option in options.items():
        shown = option.envvar if name == "config" else str(option.help).partition("[env var: ")[2].removesuffix("]")
        assert shown == env_name(name)
