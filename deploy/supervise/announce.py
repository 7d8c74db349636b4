"""Start-up banner of `threadlog up`: where the server is, what it serves, and what its user should know beforehand."""

from __future__ import annotations

import ipaddress

from threadlog.deploy.settings import Settings
from threadlog.engine.user_code.langgraph_json import LanggraphJson

_OWN_MEMORY = "each has its own memory (variables of modules, InMemoryStore)"


def lines(settings: Settings, app: LanggraphJson, *, data_dir: str | None) -> list[str]:
    """`data_dir`: of the embedded Postgres, None without one."""
    said = [
        f"threadlog   {app.path}",
        f"graphs      {', '.join(app.graphs)}",
        f"log         {_where_the_log_is(settings, embedded=data_dir is not None)}",
    ]
    if data_dir:
        said.append(f"data        {data_dir}")
    said.append(f"executors   {_executors(settings)}")
    said += [f"notice      {notice}" for notice in app.notices]
    return said


def ready(url: str, app: LanggraphJson, seconds: float) -> str:
    """`url`: of the server; what is below the application's mount prefix is shown there."""
    base = f"{url}{app.http.mount_prefix}"
    pages = [("ui", f", studio at {base}/studio"), ("meta", f", docs at {base}/docs")]
    shown = "".join(text for group, text in pages if group not in app.http.disabled)
    return f"ready       {base} after {seconds:.1f} s{shown}. Ctrl-C stops it."


def warning_of_openness(settings: Settings) -> str | None:
    """None for a server that only programs of its own machine can reach."""
    if _is_loopback(settings.host):
        return None
    return (
        f"ANYONE WHO CAN REACH {settings.host}:{settings.port} CAN READ AND CHANGE EVERYTHING AND RUN THE GRAPHS: "
        "there is no authentication. Listen on 127.0.0.1, or let only a proxy that authenticates reach it "
        "(docs/security.md)."
    )


def _where_the_log_is(settings: Settings, *, embedded: bool) -> str:
    if settings.kafka_bootstrap_servers:
        return f"Apache Kafka at {settings.kafka_bootstrap_servers}"
    return "embedded Postgres" if embedded else "the Postgres of DATABASE_URI"


def _executors(settings: Settings) -> str:
    most = settings.most_executors
    if most <= 1:
        return str(most)
    if settings.executors is None:
        return f"1, and {most} once runs overlap: {_OWN_MEMORY}. --executors 1 keeps to one"
    return f"{most}: {_OWN_MEMORY}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
