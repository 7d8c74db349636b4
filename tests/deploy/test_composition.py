"""What the environment and langgraph.json choose arrives in the objects that servers are made of."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY, AsyncMock, Mock

import pytest

from threadlog.deploy import health
from threadlog.deploy.commands import derive
from threadlog.deploy.compose import api_engine
from threadlog.deploy.compose.api_engine import api_settings
from threadlog.deploy.compose.encryption import keyring_options, master_keys
from threadlog.deploy.compose.engine import engine_of
from threadlog.deploy.compose.environment import apply
from threadlog.deploy.compose.executor import executor_options, run_executor
from threadlog.deploy.compose.storage import opened_log
from threadlog.deploy.compose.webhooks import schedule_of, sender_of
from threadlog.deploy.logs import PROCESS_NAME, configure_logging
from threadlog.deploy.metrics import port_of
from threadlog.deploy.parent import PARENT_PID
from threadlog.deploy.settings import Settings, env_name
from threadlog.deploy.supervise import announce
from threadlog.deploy.supervise.children import Child
from threadlog.deploy.supervise.supervisor import Supervisor
from threadlog.engine.log.kafka.log import KafkaLog
from threadlog.engine.log.memory import MemoryLog
from threadlog.engine.user_code.http_section import HttpSection
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json
from threadlog.projections.derived.prices import PriceTable
from threadlog.projections.derived.tables import DerivedTables


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(env_name(field), raising=False)
    for name in ("POSTGRES_URI", "POSTGRES_URI_CUSTOM", PROCESS_NAME):
        monkeypatch.delenv(name, raising=False)


def application(folder: Path, **more: Any) -> LanggraphJson:
    (folder / "agent.py").write_text("graph = 1\n")
    (folder / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, **more}))
    return load_langgraph_json(folder / "langgraph.json")


@pytest.fixture
def app(tmp_path: Path) -> LanggraphJson:
    return application(tmp_path)


Probe = Callable[[Settings, LanggraphJson], Any]


def api(attribute: str) -> Probe:
    return lambda settings, app: getattr(api_settings(settings, app), attribute)


def langsmith(settings: Settings, app: LanggraphJson) -> Any:
    return api_settings(settings.model_copy(update={"langsmith_api_key": "lsv2"}), app).langsmith


def executor(attribute: str) -> Probe:
    return lambda settings, app: getattr(executor_options(settings, "postgresql:///given", app), attribute)


def pool_seconds(settings: Settings, app: LanggraphJson) -> Any:
    pool: Any = api_engine._pool(settings, "postgresql:///x", name="api", size=1)
    return pool.kwds["seconds"]


def supervisor(look: Callable[[Supervisor], Any]) -> Probe:
    return lambda settings, app: look(Supervisor(settings, app))


async def kafka(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How the log in Kafka would be opened."""
    asked: list[Any] = []

    async def create(*args: Any, **kwargs: Any) -> MemoryLog:
        asked.append((args, kwargs))
        return MemoryLog(1)

    monkeypatch.setattr(KafkaLog, "create", create)
    async with opened_log(settings):
        return asked.pop()


async def probed_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a process would get ready to answer probes."""

    def connect(*args: Any, **options: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr(health, "pool_of", connect)
    try:
        async with health.probed(settings, "postgresql:///x", MemoryLog(1)):
            return False
    except ConnectionError:
        return True


def loaded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What an executor would load."""
    paths: list[Path] = []
    monkeypatch.setattr("threadlog.deploy.compose.executor.run", lambda path, main: paths.append(path))
    monkeypatch.setattr("threadlog.deploy.compose.executor.load", lambda path: LanggraphJson(path=path, graphs={}))
    monkeypatch.delenv(PARENT_PID, raising=False)
    run_executor(settings)
    return paths.pop()


def hopeless(it: Supervisor) -> bool:
    """Whether a supervisor gives up when an executor says that it cannot run."""
    it._on_hopeless(Child("executor-1", "executor", (), ANY, "x", 0.0))
    return it._stop.is_set()


def formatter(settings: Settings, app: LanggraphJson) -> Any:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    try:
        configure_logging(settings)
        (handler,) = root.handlers
        return root.level, handler.format(logging.makeLogRecord({"name": "x", "levelname": "INFO", "created": 0}))
    finally:
        root.handlers[:], root.level = before
        sys.excepthook, threading.excepthook = hooks
        logging.captureWarnings(False)


async def children(settings: Settings, app: LanggraphJson, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a supervisor starts."""
    it, started = Supervisor(settings, app, out=lambda line: None), []

    async def start(name: str, role: str, *options: str) -> None:
        started.append(role)

    async def ready() -> None:
        it._ready = True

    monkeypatch.setattr(it._children, "start", start)
    monkeypatch.setattr(it, "_until_ready", ready)
    monkeypatch.setattr(it, "_start_executors", AsyncMock())
    await it._start()
    for watcher in it._watchers:
        watcher.cancel()
    return started


async def derived(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With which prices `threadlog derive` counts, how long it keeps runs, and whether it exports them."""
    opened, counting = AsyncMock(), Mock()
    monkeypatch.setattr(PriceTable, "load", lambda path: path)
    monkeypatch.setattr(DerivedTables, "open", opened)
    monkeypatch.setattr(derive, "counting", counting)
    monkeypatch.setattr(derive, "app_of", Mock())
    monkeypatch.setattr(derive, "_prepare", Mock())
    for name in ("database_ready", "_log_is_there", "_until_told_to_stop"):
        monkeypatch.setattr(derive, name, AsyncMock())
    await derive.derive(settings)
    return isinstance(opened.call_args.args[1], Path), counting.call_args.kwargs


# Every variable: another value than its default, and an object that has to differ with it. `kafka`: the log in Kafka;
# `executor`: what one loads; `health`: whether it answers probes; `children`: the processes of one machine; `derived`:
# what `threadlog derive` counts with.
CHOICES: dict[str, tuple[str, Probe | str]] = {
    "DATABASE_URI": ("postgresql://there/db", supervisor(lambda it: it._postgres is None)),
    "KAFKA_BOOTSTRAP_SERVERS": ("broker:1", executor("log_in_database")),
    "THREADLOG_TOPIC_PREFIX": ("other.", "kafka"),
    "THREADLOG_TOPIC_REPLICATION_FACTOR": ("3", "kafka"),
    "THREADLOG_PARTITIONS": ("7", "kafka"),
    "THREADLOG_COMMANDS_RETENTION_HOURS": ("1", "kafka"),
    "THREADLOG_STREAM_RETENTION_HOURS": ("1", "kafka"),
    "THREADLOG_DATA_DIR": ("elsewhere", supervisor(lambda it: it._settings.database_uri)),
    "THREADLOG_CONFIG": ("other.json", "executor"),
    "THREADLOG_HOST": ("127.0.0.2", executor("api_url")),
    "THREADLOG_PORT": ("2025", executor("api_url")),
    "THREADLOG_HEALTH_PORT": ("9", "health"),
    "THREADLOG_DATABASE_TIMEOUT_SECONDS": ("9", pool_seconds),
    "HTTP_READ_TIMEOUT_SECONDS": ("9", api("read_timeout_seconds")),
    "THREADLOG_API_URL": ("http://there:1", executor("api_url")),
    "THREADLOG_HIDE_ERRORS": ("true", executor("hide_errors")),
    "THREADLOG_EXECUTORS": ("3", supervisor(lambda it: it._staff)),
    "THREADLOG_LINK": ("/tmp/link.sock", executor("link")),
    "THREADLOG_FORK_SERVER": (
        "false",
        lambda settings, app: settings.fork_server,
    ),  # test_fork_server.py shows what it does
    "THREADLOG_DERIVE": ("true", "children"),
    "THREADLOG_PRICES": ("prices.json", "derived"),
    "THREADLOG_DERIVED_RUNS_DAYS": ("9", "derived"),
    "THREADLOG_EXPORT_DIR": ("exports", "derived"),
    "THREADLOG_LOOP_YIELD": ("false", executor("loop_yield")),
    "THREADLOG_RELOAD": ("true", supervisor(hopeless)),
    "N_JOBS_PER_WORKER": ("9", executor("slots")),
    "BG_JOB_TIMEOUT_SECS": ("9", executor("timeout_seconds")),
    "BG_JOB_MAX_RETRIES": (
        "9",
        lambda settings, app: engine_of(settings, MemoryLog(1), Mock()).processor.max_attempts,
    ),
    "THREADLOG_THREAD_STOP_SECONDS": ("9", executor("thread_stop_seconds")),
    "THREADLOG_HANG_SECONDS": ("9", supervisor(lambda it: it._leases._hang)),
    "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": ("9", executor("grace_seconds")),
    "RESUMABLE_STREAM_TTL_SECONDS": ("9", api("resumable_seconds")),
    "THREADLOG_IDEMPOTENCY_HOURS": ("9", api("idempotency_ttl_seconds")),
    "HTTP_MAX_REQUEST_BODY_BYTES": ("9", api("max_body_bytes")),
    "CORS_ALLOW_ORIGINS": ("https://a.example", api("cors")),
    "METRIC_PREFIX": ("other_", api("metric_prefix")),
    "EXPOSE_INTERNAL_METRICS_PROMETHEUS": ("true", api("internal_metrics")),
    "LSD_PROM_METRICS_ENABLED": ("true", lambda settings, app: settings.lsd_prom_metrics_enabled),  # test_metrics.py
    "LSD_PROM_METRICS_PORT": ("9999", lambda settings, app: port_of(settings)),
    "LANGSMITH_API_KEY": ("lsv2", api("langsmith")),
    "LANGSMITH_ENDPOINT": ("https://there", langsmith),
    "LANGSMITH_WORKSPACE_ID": ("workspace", langsmith),
    "LANGGRAPH_AES_KEY": ("k" * 16, lambda settings, app: settings.aes_key and master_keys(settings).names),
    "THREADLOG_AES_OLD_KEYS": (
        f"{'k' * 16},{'l' * 32}",
        lambda settings, app: master_keys(settings.model_copy(update={"aes_key": "n" * 24})).names,
    ),
    "LANGGRAPH_AES_JSON_KEYS": ("email,ssn", lambda settings, app: keyring_options(settings, None)["field_names"]),
    "THREADLOG_WEBHOOK_SECRET": ("whsec_" + "A" * 32, lambda settings, app: sender_of(settings, Mock())._keys),
    "THREADLOG_WEBHOOK_TIMEOUT_SECONDS": ("9", lambda settings, app: sender_of(settings, Mock())._seconds),
    "THREADLOG_WEBHOOK_ATTEMPTS": ("9", lambda settings, app: schedule_of(settings).attempts),
    "THREADLOG_WEBHOOK_RETRY_SECONDS": ("9", lambda settings, app: schedule_of(settings).first_seconds),
    "LOG_LEVEL": ("ERROR", formatter),
    "LOG_JSON": ("true", formatter),
    "LOG_COLOR": ("true", formatter),
}


def test_no_setting_is_left_out() -> None:
    assert set(CHOICES) == {env_name(field) for field in Settings.model_fields}


@pytest.mark.parametrize("name", CHOICES)
async def test_every_setting_arrives_in_what_servers_are_made_of(
    app: LanggraphJson, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value, probe = CHOICES[name]

    async def look() -> Any:
        if probe == "kafka":
            return await kafka(Settings.load(kafka_bootstrap_servers="broker:1"), monkeypatch)
        if probe == "executor":
            return loaded(Settings.load(), monkeypatch)
        if probe == "health":
            return await probed_for(Settings.load(), monkeypatch)
        if probe == "children":
            return await children(Settings.load(database_uri="postgresql:///x", fork_server=False), app, monkeypatch)
        if probe == "derived":
            return await derived(Settings.load(database_uri="postgresql:///x"), monkeypatch)
        assert not isinstance(probe, str)
        return probe(Settings.load(), app)

    before = await look()
    monkeypatch.setenv(name, value)
    assert await look() != before


def test_cors_of_the_file_stands_instead_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ALLOW_ORIGINS", "https://variable.example")
    everything = {
        "allow_origins": ["https://a.example"],
        "allow_origin_regex": "https://.*[.]b[.]example",
        "allow_methods": ["GET"],
        "allow_headers": ["x-a"],
        "expose_headers": ["x-b"],
        "allow_credentials": True,
        "max_age": 3,
    }
    cors = api_settings(Settings.load(), application(tmp_path, http={"cors": everything})).cors
    assert cors.allow_origin_regex is not None and cors.allow_origin_regex.fullmatch("https://x.b.example")
    assert (cors.allow_origins, cors.allow_methods) == (("https://a.example",), ("GET",))
    assert (cors.allow_headers, cors.expose_headers) == (("x-a",), ("x-b",))
    assert cors.allow_credentials and cors.max_age_seconds == 3
    cors = api_settings(Settings.load(), application(tmp_path, http={"cors": {"allow_credentials": True}})).cors
    assert cors.allow_origins == () and "POST" in cors.allow_methods
    assert api_settings(Settings.load(), application(tmp_path)).cors.allow_origins == ("https://variable.example",)


def test_a_supervisors_settings_win_over_the_file_and_the_file_over_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = application(tmp_path, env={"COLOR": "file", "THREADLOG_PORT": "1", "POSTGRES_URI": "postgres://x/file"})
    for name in ("COLOR", "THREADLOG_PORT", "POSTGRES_URI"):
        monkeypatch.setenv(name, "shell")
    apply(app)
    assert (os.environ["COLOR"], Settings.load().port, Settings.load().database_uri) == ("file", 1, "postgres://x/file")
    for name in ("COLOR", "THREADLOG_PORT", "POSTGRES_URI"):
        monkeypatch.setenv(name, "given")
    monkeypatch.setenv(PROCESS_NAME, "executor-1")
    apply(app)
    assert [os.environ[name] for name in ("COLOR", "THREADLOG_PORT", "POSTGRES_URI")] == ["file", "given", "given"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_server_on_loopback_is_not_warned_of(host: str) -> None:
    assert announce.warning_of_openness(Settings.load(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.3.4", "myhost"])
def test_a_server_that_others_can_reach_is_warned_of(host: str) -> None:
    assert "ANYONE WHO CAN REACH" in str(announce.warning_of_openness(Settings.load(host=host, port=2024)))


def test_a_started_server_is_shown_below_its_mount_prefix(tmp_path: Path) -> None:
    base = LanggraphJson(tmp_path / "langgraph.json", {})
    assert announce.ready("http://127.0.0.1:2024", base, 2.51) == (
        "ready       http://127.0.0.1:2024 after 2.5 s, studio at http://127.0.0.1:2024/studio, docs at "
        "http://127.0.0.1:2024/docs. Ctrl-C stops it."
    )
    mounted = replace(base, http=HttpSection(mount_prefix="/agents", disabled=frozenset({"meta"})))
    assert announce.ready("http://127.0.0.1:2024", mounted, 2.51) == (
        "ready       http://127.0.0.1:2024/agents after 2.5 s, studio at http://127.0.0.1:2024/agents/studio. "
        "Ctrl-C stops it."
    )
    bare = replace(base, http=HttpSection(disabled=frozenset({"meta", "ui"})))
    assert announce.ready("http://h", bare, 2.51) == "ready       http://h after 2.5 s. Ctrl-C stops it."


def test_it_says_when_memory_is_not_shared(app: LanggraphJson, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(executors: int | None) -> str:
        said = announce.lines(Settings.load(executors=executors), app, data_dir=None)
        return next(line.removeprefix("executors   ") for line in said if line.startswith("executors "))

    assert line(1) == "1"
    assert line(3).startswith("3: each has its own memory")
    monkeypatch.setattr(Settings, "most_executors", 4)
    assert line(None).startswith("1, and 4 once runs overlap: each has its own memory")
