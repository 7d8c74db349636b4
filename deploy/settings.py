"""Settings of every process, read from the environment: name, default, unit.

`docs/settings.md` lists the same: `deploy.settings_table` writes it, a test compares the two. Command-line options of
`threadlog` override the environment; a supervisor hands its settings to its children through `Settings.to_env`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from threadlog.engine.encryption.system_fields import NEVER_ENCRYPTED
from threadlog.engine.webhooks.signing import keys_of

EMBEDDED_PARTITIONS = 16
CLUSTER_PARTITIONS = 64


class BadSettings(Exception):
    """A setting cannot be used; the message names the environment variable and says what is wrong with it."""


class Settings(BaseSettings):
    """The settings of one process. Raises `BadSettings` (through `Settings.load`) for values that cannot be used."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    # where the data lives
    database_uri: str | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URI", "POSTGRES_URI", "POSTGRES_URI_CUSTOM"),
        description="Postgres to use. Unset: an embedded one, its files in the data folder.",
    )
    kafka_bootstrap_servers: str | None = Field(
        None,
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="Apache Kafka brokers (`host:port,host:port`) that keep the log. Unset: the log is in Postgres.",
    )
    topic_prefix: str = Field(
        "threadlog.",
        validation_alias="THREADLOG_TOPIC_PREFIX",
        pattern=r"^[A-Za-z0-9._-]{0,200}$",
        description="What the names of the Kafka topics begin with.",
    )
    topic_replication_factor: int = Field(
        -1,
        validation_alias="THREADLOG_TOPIC_REPLICATION_FACTOR",
        ge=-1,
        description="Replicas of each Kafka topic when threadlog creates it; -1 is the brokers' own default.",
    )
    partitions: int | None = Field(
        None,
        validation_alias="THREADLOG_PARTITIONS",
        ge=1,
        le=1024,
        description="Partitions per topic, fixed when the log is created. Unset: 16 in Postgres, 64 in Kafka.",
    )
    data_dir: Path = Field(
        Path(".threadlog"),
        validation_alias="THREADLOG_DATA_DIR",
        description="Folder of the embedded Postgres and its log file.",
    )

    # the application and its processes
    config: Path = Field(
        Path("langgraph.json"), validation_alias="THREADLOG_CONFIG", description="The application's configuration file."
    )
    host: str = Field("127.0.0.1", validation_alias="THREADLOG_HOST", description="Address the api listens on.")
    port: int = Field(
        2024, validation_alias="THREADLOG_PORT", ge=0, le=65535, description="Port the api listens on; 0 picks one."
    )
    api_url: str | None = Field(
        None,
        validation_alias="THREADLOG_API_URL",
        pattern=r"^https?://[^/\s]+.*$",
        description="Where executors reach the api, for `get_client()` in graphs. Unset: this machine, the port above.",
    )
    health_port: int | None = Field(
        None,
        validation_alias="THREADLOG_HEALTH_PORT",
        ge=1,
        le=65535,
        description="Port for health probes of an api, engine or executor process started by itself. Unset: none.",
    )
    executors: int | None = Field(
        None,
        validation_alias="THREADLOG_EXECUTORS",
        ge=0,
        description="Executor processes under `threadlog up`. Unset: one; one per core when runs overlap.",
    )
    link: Path | None = Field(
        None,
        validation_alias="THREADLOG_LINK",
        description="Socket between the engine and the executors of one machine; `threadlog up` sets it for itself.",
    )
    fork_server: bool = Field(
        True,
        validation_alias="THREADLOG_FORK_SERVER",
        description="Under `threadlog up` on Linux: fork the processes from one that has imported what they need. "
        "Off: each is an interpreter of its own, which takes 50 MB and a second more.",
    )
    reload: bool = Field(
        False,
        validation_alias="THREADLOG_RELOAD",
        description="Under `threadlog up`: restart the executors when the application's files change.",
    )

    # runs
    n_jobs_per_worker: int = Field(
        512,
        validation_alias="N_JOBS_PER_WORKER",
        ge=1,
        description="Runs that one executor process works on at the same time.",
    )
    bg_job_timeout_secs: float = Field(
        86_400, validation_alias="BG_JOB_TIMEOUT_SECS", gt=0, description="Seconds a run may take before it times out."
    )
    bg_job_max_retries: int = Field(
        3,
        validation_alias="BG_JOB_MAX_RETRIES",
        ge=1,
        description="Attempts of a run whose executor dies, the first included.",
    )
    hang_seconds: float = Field(
        600,
        validation_alias="THREADLOG_HANG_SECONDS",
        ge=0,
        description="Seconds user code may keep an executor's interpreter or event loop before the process is killed; "
        "0: as long as it likes.",
    )
    bg_job_shutdown_grace_period_secs: float = Field(
        180,
        validation_alias="BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS",
        ge=0,
        le=3600,
        description="Seconds a stopping executor waits for its runs to reach a superstep where they are handed on.",
    )
    thread_stop_seconds: float = Field(
        30,
        validation_alias="THREADLOG_THREAD_STOP_SECONDS",
        ge=0,
        le=3600,
        description="Seconds the next run of a thread waits for a node of a stopped one that still runs (not async).",
    )
    loop_yield: bool = Field(
        True,
        validation_alias="THREADLOG_LOOP_YIELD",
        description="Nodes that stream from threads stop every millisecond until the executor's event loop is idle.",
    )
    hide_errors: bool = Field(
        False,
        validation_alias="THREADLOG_HIDE_ERRORS",
        description="Tell clients only the class of unexpected errors in runs, not their text.",
    )

    # http and streams
    resumable_stream_ttl_seconds: int = Field(
        120,
        validation_alias="RESUMABLE_STREAM_TTL_SECONDS",
        ge=0,
        description="Seconds a run's stream can at least be replayed after it was written.",
    )
    idempotency_hours: float = Field(
        24,
        validation_alias="THREADLOG_IDEMPOTENCY_HOURS",
        gt=0,
        le=8760,
        description="Hours a request with an Idempotency-Key is recognised when it is sent again.",
    )
    http_max_request_body_bytes: int = Field(
        300 * 1024 * 1024,
        validation_alias="HTTP_MAX_REQUEST_BODY_BYTES",
        gt=0,
        description="Bytes a request body may have; the response to a larger one is 413.",
    )
    http_read_timeout_seconds: float = Field(
        75,
        validation_alias="HTTP_READ_TIMEOUT_SECONDS",
        gt=0,
        description="Seconds a request may take to arrive: its headers, or be idle; its body, and 1 s more per 10 kB.",
    )
    database_timeout_seconds: float = Field(
        30,
        validation_alias="THREADLOG_DATABASE_TIMEOUT_SECONDS",
        gt=0,
        description="Seconds the api waits for a response of Postgres, or for a connection, before it returns 503.",
    )
    cors_allow_origins: Annotated[list[str], NoDecode] = Field(
        ["*"],
        validation_alias="CORS_ALLOW_ORIGINS",
        description="Origins (comma-separated) that browsers may call the api from.",
    )

    # metrics
    metric_prefix: str = Field(
        "lg_api_",
        validation_alias="METRIC_PREFIX",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$",
        description="What the names of the metrics begin with.",
    )
    expose_internal_metrics_prometheus: bool = Field(
        False,
        validation_alias="EXPOSE_INTERNAL_METRICS_PROMETHEUS",
        description="Also expose the metrics that LangGraph Server calls internal.",
    )
    lsd_prom_metrics_enabled: bool = Field(
        False,
        validation_alias="LSD_PROM_METRICS_ENABLED",
        description="Serve each process' metrics at a port of its own, too: see docs/monitoring.md.",
    )
    lsd_prom_metrics_port: int = Field(
        9464,
        validation_alias="LSD_PROM_METRICS_PORT",
        ge=1,
        le=64000,
        description="The first of these ports.",
    )

    # LangSmith, as the api asks it for the feedback links of runs; graphs are traced by LangChain itself
    langsmith_api_key: str | None = Field(
        None,
        validation_alias=AliasChoices("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY"),
        description="Key of LangSmith: runs with `feedback_keys` have links. Unset: they have none.",
    )
    langsmith_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT"),
        pattern=r"^https?://[^/\s]+.*$",
        description="Where LangSmith is. Unset: `https://api.smith.langchain.com`.",
    )
    langsmith_workspace_id: str | None = Field(
        None,
        validation_alias="LANGSMITH_WORKSPACE_ID",
        description="The workspace that the key is to act in, where it has several.",
    )

    # encryption
    aes_key: str | None = Field(
        None,
        validation_alias="LANGGRAPH_AES_KEY",
        description="Key of 16, 24 or 32 bytes: content is encrypted, see docs/encryption.md. Unset: it is not.",
    )
    aes_old_keys: Annotated[list[str], NoDecode] = Field(
        [],
        validation_alias=AliasChoices("THREADLOG_AES_OLD_KEYS", "LANGGRAPH_AES_FALLBACK_KEYS"),
        description="Keys (comma-separated) that `LANGGRAPH_AES_KEY` was before: what they encrypted can be read.",
    )
    aes_json_keys: Annotated[list[str], NoDecode] = Field(
        [],
        validation_alias="LANGGRAPH_AES_JSON_KEYS",
        description="Fields (comma-separated names) to encrypt in metadata, configs, contexts and items of the store.",
    )

    # webhooks
    webhook_secret: str | None = Field(
        None,
        validation_alias="THREADLOG_WEBHOOK_SECRET",
        description="Key (`whsec_` and base64) that signs webhooks; two, separated by a space, while one is replaced. "
        "Unset: they are not signed.",
    )
    webhook_timeout_seconds: float = Field(
        10,
        validation_alias="THREADLOG_WEBHOOK_TIMEOUT_SECONDS",
        gt=0,
        le=300,
        description="Seconds a receiver of a webhook may take.",
    )
    webhook_attempts: int = Field(
        8,
        validation_alias="THREADLOG_WEBHOOK_ATTEMPTS",
        ge=1,
        le=100,
        description="Attempts to deliver a webhook, the first included.",
    )
    webhook_retry_seconds: float = Field(
        5,
        validation_alias="THREADLOG_WEBHOOK_RETRY_SECONDS",
        gt=0,
        le=3600,
        description="Seconds before the second attempt; each further wait is four times as long, an hour at most.",
    )

    # what is derived from the log
    derive: bool = Field(
        False,
        validation_alias="THREADLOG_DERIVE",
        description="Under `threadlog up`: also count usage and runs, see docs/usage.md. Needs `threadlog[streams]`.",
    )
    prices: Path | None = Field(
        None,
        validation_alias="THREADLOG_PRICES",
        description="File with what models cost, for the cost of usage: see docs/usage.md. Unset: costs are 0.",
    )
    export_dir: Path | None = Field(
        None,
        validation_alias="THREADLOG_EXPORT_DIR",
        description="Folder into which what is counted goes as JSON lines, see docs/usage.md. Unset: nowhere.",
    )
    derived_runs_days: float = Field(
        90,
        validation_alias="THREADLOG_DERIVED_RUNS_DAYS",
        gt=0,
        le=36_500,
        description="Days that single runs are kept for `threadlog usage --runs` after their end; sums are kept.",
    )

    # retention of the log in Postgres (in Kafka: the topics' settings when threadlog creates them)
    commands_retention_hours: float = Field(
        168,
        validation_alias="THREADLOG_COMMANDS_RETENTION_HOURS",
        gt=0,
        description="Hours a decided command is kept in the log.",
    )
    stream_retention_hours: float = Field(
        24,
        validation_alias="THREADLOG_STREAM_RETENTION_HOURS",
        gt=0,
        description="Hours streamed frames are kept in the log.",
    )

    # logging
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Lowest level that is logged."
    )
    log_json: bool = Field(False, validation_alias="LOG_JSON", description="Log one JSON object per line.")
    log_color: bool | None = Field(
        None,
        validation_alias="LOG_COLOR",
        description="Color the levels of readable lines. Unset: when they go to a terminal and `NO_COLOR` is not set.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @field_validator("log_level", mode="before")
    @classmethod
    def _level_in_any_case(cls, value: Any) -> Any:
        return {"WARN": "WARNING"}.get(value.upper(), value.upper()) if isinstance(value, str) else value

    @field_validator("cors_allow_origins", "aes_json_keys", mode="before")
    @classmethod
    def _texts_by_comma(cls, value: Any) -> Any:
        return [o.strip() for o in value.split(",") if o.strip()] if isinstance(value, str) else value

    @field_validator("aes_old_keys", mode="before")
    @classmethod
    def _keys_by_comma(cls, value: Any) -> Any:
        return [key for key in value.split(",") if key] if isinstance(value, str) else value

    @field_validator("aes_key", "aes_old_keys")
    @classmethod
    def _key_sizes(cls, value: str | list[str] | None) -> str | list[str] | None:
        for key in [value] if isinstance(value, str) else value or ():
            if (size := len(key.encode())) not in (16, 24, 32):
                raise ValueError(f"a key has to be 16, 24 or 32 bytes long, this one has {size}")
        return value

    @field_validator("aes_json_keys")
    @classmethod
    def _not_of_the_server(cls, value: list[str]) -> list[str]:
        if never := [name for name in value if name in NEVER_ENCRYPTED]:
            raise ValueError(f"{never[0]} is a field of the server's own, which has to stay readable")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _secrets(cls, value: str | None) -> str | None:
        if value is not None:
            keys_of(value)
        return value

    @field_validator("database_uri")
    @classmethod
    def _postgres_uri(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgres://", "postgresql://")):
            raise ValueError("must begin with postgres:// or postgresql://")
        return value

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """The settings of the environment, overridden by the `given` ones that are not None.

        Raises:
            BadSettings: a value cannot be used.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise BadSettings("\n".join(_sentence(problem) for problem in error.errors())) from None

    @property
    def partition_count(self) -> int:
        """Partitions per topic for a log that is created now."""
        if self.partitions is not None:
            return self.partitions
        return CLUSTER_PARTITIONS if self.kafka_bootstrap_servers else EMBEDDED_PARTITIONS

    @property
    def url_of_the_api(self) -> str:
        """Where user code in this process reaches the api."""
        if self.api_url is not None:
            return self.api_url.rstrip("/")
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        host = everywhere.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def stream_retention_seconds(self) -> float:
        """How long frames are kept: never less than streams are promised to be replayable."""
        return max(self.stream_retention_hours * 3600, self.resumable_stream_ttl_seconds)

    @property
    def most_executors(self) -> int:
        """How many executors `threadlog up` may start."""
        if self.executors is not None:
            return self.executors
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def to_env(self) -> dict[str, str]:
        """The environment from which another process reads these same settings."""
        env = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            env[env_name(name)] = ",".join(value) if isinstance(value, list) else text(value)
        return env


def env_name(field: str) -> str:
    """The (first) environment variable of a field of `Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias)


def text(value: object) -> str:
    """A value as its environment variable has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_SECRET = {"webhook_secret", "THREADLOG_WEBHOOK_SECRET", "aes_key", "aes_old_keys"} | {
    "LANGGRAPH_AES_KEY", "THREADLOG_AES_OLD_KEYS", "LANGGRAPH_AES_FALLBACK_KEYS"
}  # fmt: skip


def _sentence(problem: Any) -> str:
    field = str(problem["loc"][0])
    name = env_name(field) if field in Settings.model_fields else field
    message = str(problem["msg"]).removeprefix("Value error, ")
    if {field, name} & _SECRET:
        return f"{name}: {message}"  # it is not shown
    return f"{name}={problem['input']}: {message[:1].lower()}{message[1:]}"


def without_password(uri: str) -> str:
    """A DSN that may be shown."""
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:…@", uri)
