"""What threadlog does with each key of `langgraph.json`, and with the environment variables that stand for one.

`docs/langgraph_json.md` lists the same tables (a test compares them). The rule: asking for something that does not
exist here is never passed over in silence. It is refused where passing it over would expose data, else named at start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any


class Treatment(StrEnum):
    HONOURED = "honoured"
    BUILD = "build only"  # for building images: nothing to do in a running server
    IGNORED = "ignored, with a warning"
    REFUSED = "refused"
    NEEDLESS = "not needed"  # what it is for is done otherwise, or always: nothing is missing


_NO_PICKLE = (
    "States are shown without the application's own types, which can't be done of pickled values. Make them a dict, a "
    "dataclass or a pydantic model."
)
_NO_CUSTOM_STORE = (
    "Items are kept in threadlog's own log and tables, which a store of the application's own would pass by. Use that "
    "store in the graphs by another name than `runtime.store`."
)
_NO_CUSTOM_CHECKPOINTER = (
    "Checkpoints are always in threadlog's own log and tables, which another checkpointer would pass by."
)
# A dotted key is inside of another one; an object whose own key is not here is looked into.
KEYS: Mapping[str, tuple[Treatment, str]] = {
    "$schema": (Treatment.BUILD, "For editors."),
    "dependencies": (Treatment.HONOURED, "Local folders are put on the module path; packages you install yourself."),
    "graphs": (Treatment.HONOURED, "The graphs, Python only."),
    "env": (Treatment.HONOURED, "A `.env` file or an object. Wins over the process environment; may be missing."),
    "http.cors": (Treatment.HONOURED, "`allow_origins`, `allow_methods`, `allow_headers`, `allow_credentials`, "
                  "`allow_origin_regex`, `expose_headers`, `max_age`."),
    "http.app": (Treatment.HONOURED, "An ASGI application (Starlette, FastAPI, …) or an aiohttp one: its routes, its "
                 "middleware around all routes, its lifespan, its OpenAPI description ([custom app](custom-app.md))."),
    "http.configurable_headers": (Treatment.HONOURED, "`includes`, `excludes`: the request headers that runs find in "
                                  "`configurable`, by their names in lower case."),
    "http.mount_prefix": (Treatment.HONOURED, "All routes are below it; `/ok` is at its own place, too."),
    **{f"http.disable_{name}": (Treatment.HONOURED, f"The routes of {what} are not there.") for name, what in (
        ("assistants", "assistants"), ("threads", "threads"), ("runs", "runs"), ("store", "the store"),
        ("crons", "crons"),
        ("meta", "`/info`, `/metrics`, `/docs`, `/openapi.json`, `/asyncapi.json`"))},
    **dict.fromkeys(("http.disable_mcp", "http.disable_a2a", "http.disable_ui"),
                    (Treatment.HONOURED, "Those endpoints are not there.")),
    "http.middleware_order": (Treatment.HONOURED, "Whether `auth` or the middleware of `http.app` comes first."),
    "http.enable_custom_route_auth": (Treatment.HONOURED, "Routes of `http.app` need a user, where there is `auth`."),
    "http.logging_headers": (Treatment.HONOURED, "`includes`, `excludes`: the request headers that lines of "
                             "the log about a request have, as the field `headers` of `LOG_JSON`."),
    "http.disable_webhooks": (Treatment.HONOURED, "A run with a webhook is refused, and nothing is sent."),
    "http": (Treatment.IGNORED, "Every other key of it."),
    "auth.path": (Treatment.HONOURED, "An `Auth` object of `langgraph_sdk`: [auth.md](auth.md)."),
    "auth.disable_studio_auth": (Treatment.HONOURED, "Whether LangGraph Studio has to authenticate like anybody."),
    "auth.cache": (Treatment.HONOURED, "`cache_keys`, `ttl_seconds`, `max_size`."),
    "auth.openapi": (Treatment.HONOURED, "`securitySchemes`, `security` and `paths` of the api's description."),
    "auth.allow_langsmith_api_keys": (Treatment.REFUSED, "Keys of LangSmith can't be checked here."),
    "auth": (Treatment.REFUSED, "Every other key of it: it is not known, and what it asks for might protect data."),
    "encryption.path": (Treatment.HONOURED, "An `Encryption` object of `langgraph_sdk`: "
                        "[encryption](encryption.md#handlers-of-your-own)."),
    "encryption": (Treatment.REFUSED, "Every other key of it: it is not known, and what it asks for protects data."),
    "store.index": (Treatment.HONOURED, "`dims`, `embed`, `fields`: semantic search, with pgvector in Postgres."),
    "store.ttl": (Treatment.HONOURED, "`default_ttl`, `refresh_on_read`, `sweep_interval_minutes`."),
    "store.path": (Treatment.REFUSED, _NO_CUSTOM_STORE),
    "store": (Treatment.IGNORED, "Every other key of it."),
    "checkpointer.ttl": (Treatment.HONOURED, "`strategy`, `default_ttl`, `sweep_interval_minutes`, `sweep_limit`."),
    "checkpointer.backend": (Treatment.REFUSED, f"`default` asks for nothing. {_NO_CUSTOM_CHECKPOINTER}"),
    "checkpointer.path": (Treatment.REFUSED, _NO_CUSTOM_CHECKPOINTER),
    "checkpointer.serde.pickle_fallback": (Treatment.REFUSED, _NO_PICKLE),
    "checkpointer.serde": (Treatment.IGNORED, "Every other key of it: all types of the graphs are read."),
    "checkpointer": (Treatment.IGNORED, "Every other key of it."),
    "priority.path": (Treatment.HONOURED, "A `langgraph_sdk.Priority` with its `assign` function."),
    "priority": (Treatment.IGNORED, "Every other key of it."),
    "migrations": (Treatment.HONOURED, "threadlog's own: functions that bring states of earlier versions of a graph up "
                   "([migrations](migrations.md))."),
    "webhooks": (Treatment.HONOURED, "`env_prefix`, `url`, `headers`: see [webhooks](webhooks.md)."),
    "ui": (Treatment.HONOURED, "React components that agents show ([generative UI](generative-ui.md)). Needs Node.js "
           "and `@langchain/langgraph-ui` in the project: without them a notice says so, and they are not served."),
    "ui_config": (Treatment.HONOURED, "`shared`: packages that the chat page brings along for `ui`."),
    **dict.fromkeys(
        ("python_version", "node_version", "api_version", "base_image", "image_distro", "dockerfile_lines",
         "pip_config_file", "pip_installer", "source", "keep_pkg_tools", "dockerfile"),
        (Treatment.BUILD, "For building images."),
    ),
}  # fmt: skip

# The command line of LangGraph hands sections of the file to a container as variables that hold JSON.
SECTIONS: Mapping[str, str] = {
    "LANGGRAPH_AUTH": "auth",
    "LANGGRAPH_ENCRYPTION": "encryption",
    "LANGGRAPH_HTTP": "http",
    "LANGGRAPH_STORE": "store",
    "LANGGRAPH_CHECKPOINTER": "checkpointer",
    "LANGGRAPH_WEBHOOKS": "webhooks",
    "LANGGRAPH_PRIORITY": "priority",
    "LANGGRAPH_UI": "ui",
    "LANGGRAPH_UI_CONFIG": "ui_config",
}

_NO_REDIS = "There is no Redis here: the log and Postgres are all."
_NO_DATADOG = "Nothing is sent to Datadog: have its agent scrape `/metrics`, or set `OTEL_EXPORTER_OTLP_ENDPOINT`."
_NO_A2UI = "A2A shows messages and states of agents, no results of tool calls and no A2UI."
_INSIDE = "A switch of parts that are LangGraph Server's own."

# Other variables of LangGraph Server than those that are settings here (`deploy.settings`).
VARIABLES: Mapping[str, tuple[Treatment, str]] = {
    "LANGGRAPH_AUTH_TYPE": (
        Treatment.REFUSED,
        "Authentication is what `auth.path` names, whatever this says. `noop` and `custom` ask for nothing else.",
    ),
    "LANGGRAPH_AES_KEY": (Treatment.HONOURED, "Content is encrypted with it: docs/encryption.md."),
    "LANGGRAPH_AES_JSON_KEYS": (Treatment.HONOURED, "Fields of these names are encrypted: docs/encryption.md."),
    "LANGSERVE_GRAPHS": (
        Treatment.HONOURED,
        "The graphs, where there is no `langgraph.json`.",
    ),
    "MOUNT_PREFIX": (Treatment.HONOURED, "As the key `http.mount_prefix`."),
    "LS_RATE_LIMITS": (Treatment.REFUSED, "Requests are not limited here: limit them in the proxy in front."),
    "LS_DEFAULT_CHECKPOINTER_BACKEND": (Treatment.REFUSED, f"`default` asks for nothing. {_NO_CUSTOM_CHECKPOINTER}"),
    "LS_MONGODB_URI": (Treatment.REFUSED, _NO_CUSTOM_CHECKPOINTER),
    **dict.fromkeys(("LSD_DD_API_KEY", "LSD_DD_ENDPOINT"), (Treatment.REFUSED, _NO_DATADOG)),
    **dict.fromkeys(
        ("A2A_ALLOWED_TOOL_CALL_RESULTS", "A2A_A2UI_ENABLED", "A2A_A2UI_TOOL_CALL_RESULTS"),
        (Treatment.REFUSED, _NO_A2UI),
    ),
    **dict.fromkeys(("DD_API_KEY", "LS_APM_OTEL_ENABLED"), (Treatment.IGNORED, _NO_DATADOG)),
    "LSD_RUN_QUEUE_TRACE_LOG": (Treatment.IGNORED, "`LOG_LEVEL=DEBUG` and `threadlog events` tell of the queue."),
    **dict.fromkeys(
        ("REDIS_URI", "REDIS_URI_CUSTOM", "REDIS_KEY_PREFIX", "REDIS_CLUSTER", "REDIS_MAX_CONNECTIONS"),
        (Treatment.NEEDLESS, _NO_REDIS),
    ),
    "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": (Treatment.NEEDLESS, "Each process has a few connections, whatever its load."),
    "LANGGRAPH_CHECKPOINTER_POSTGRES_POOL_MAX_SIZE": (Treatment.NEEDLESS, "And the others of this name: the same."),
    "BG_JOB_ISOLATED_LOOPS": (Treatment.NEEDLESS, "Graphs are always executed by processes of their own."),
    "LANGGRAPH_CLOUD_LICENSE_KEY": (Treatment.NEEDLESS, "There is no licence to check."),
    "LS_CHECKPOINT_DELETE": (Treatment.NEEDLESS, "Checkpoints go with the transaction that deletes their thread."),
    "LANGGRAPH_AES_LEGACY_KEY": (Treatment.NEEDLESS, "Nothing here was encrypted with it."),
    "METRIC_MAX_EMITTING_TIER": (Treatment.NEEDLESS, "All metrics are shown, internal ones where they are asked for."),
    "LSD_PROTOCOL_V2_BUFFER_SIZE": (Treatment.NEEDLESS, "Events are replayed from the log."),
    "FF_V2_EVENT_STREAMING": (Treatment.NEEDLESS, "Event streaming is always there."),
    **dict.fromkeys(
        ("FF_USE_CORE_API", "FF_OPTIMIZED_STREAMING", "FF_LOG_DROPPED_EVENTS", "PREFER_GRPC_CHECKPOINTER"),
        (Treatment.NEEDLESS, _INSIDE),
    ),
}
_SWITCHED_OFF = frozenset({"false", "0", "no", "off"})

_ASKS_FOR_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "checkpointer.backend": ("default",),
    "LANGGRAPH_AUTH_TYPE": ("noop", "custom"),
    "LS_DEFAULT_CHECKPOINTER_BACKEND": ("default",),
}


def asked(name: str, value: Any) -> bool:
    """Whether that value of a key or variable asks for something."""
    return value not in (None, False, "", [], {}) and value not in _ASKS_FOR_NOTHING.get(name, ())


def asked_in(environment: Mapping[str, str]) -> Iterator[tuple[str, Treatment, str]]:
    """Every variable that asks for something: its name, what is done with it, and why."""
    for name, (treatment, why) in VARIABLES.items():
        value = environment.get(name)
        if asked(name, value) and (value or "").strip().lower() not in _SWITCHED_OFF:
            yield name, treatment, why


def treatments(section: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Treatment, str]]:
    """Every key of the file that asks for something: its dotted name, what is done with it, and why."""
    inherited = KEYS.get(within.rstrip("."), (Treatment.IGNORED, "It is not known here."))
    for name, value in section.items():
        key = f"{within}{name}"
        if not asked(key, value):
            continue
        if isinstance(value, dict) and any(known.startswith(f"{key}.") for known in KEYS):
            yield from treatments(value, f"{key}.")
        else:
            yield key, *KEYS.get(key, inherited)


def sections_of(environment: Mapping[str, str]) -> dict[str, Any]:
    """The sections that variables stand for, by variable.

    Raises:
        ValueError: one is no JSON object; the message names it.
    """
    found = {}
    for variable in SECTIONS:
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            found[variable] = json.loads(text)
        except ValueError:
            raise ValueError(f"{variable} is not JSON. Correct it, or remove it.") from None
    return found


def keys_table() -> str:
    lines = ["| key | treatment | |", "|---|---|---|"]
    return "\n".join(lines + [f"| `{key}` | {treatment} | {why} |" for key, (treatment, why) in KEYS.items()])


def variables_table() -> str:
    lines = ["| variable | treatment | |", "|---|---|---|"]
    for variable, key in SECTIONS.items():
        lines.append(f"| `{variable}` | as the key `{key}` | |")
    return "\n".join(lines + [f"| `{name}` | {how} | {why} |" for name, (how, why) in VARIABLES.items()])


if __name__ == "__main__":
    print(f"{keys_table()}\n\n{variables_table()}")
