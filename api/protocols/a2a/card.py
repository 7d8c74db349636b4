"""The agent card: what an assistant says of itself."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from threadlog.api.context import Api
from threadlog.api.http.requests import header
from threadlog.engine.run_builder import AssistantDefaults
from threadlog.projections.queries import assistants

HISTORY_SCOPE = "LangGraph-A2A-History-Scope"
_SCOPE_URI = "https://langchain.com/a2a/extensions/history-scope/v1"
_MODES = ["application/json", "text/plain"]
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?")


async def card_of(request: web.Request, api: Api, assistant: AssistantDefaults) -> dict[str, Any]:
    """The card, for clients of both versions. Modes are `a2a.input_modes`, `a2a.output_modes` of the metadata."""
    row = await assistants.get(api.pool, assistant.assistant_id)
    info = await api.assistant_cache.graph(api.pool, assistant.graph_id) or {}
    name = row["name"] if row is not None else assistant.graph_id
    described = (row["description"] if row is not None else None) or info.get("description") or f"{name} assistant"
    schema = (info.get("schemas") or {}).get("input") or {}
    asked = assistant.metadata.get("a2a")
    own = asked if isinstance(asked, dict) else {}
    inputs, outputs = (_modes(own.get(key)) for key in ("input_modes", "output_modes"))
    url = f"{_origin(request)}{api.settings.mount_prefix}/a2a/{assistant.assistant_id}"
    properties = list(schema.get("properties") or {})
    return {
        "name": name,
        "description": described,
        "url": url,
        "protocolVersion": "0.3.0",
        "preferredTransport": "JSONRPC",
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {
            "streaming": True,
            "pushNotifications": False,
            "stateTransitionHistory": False,
            "extensions": [
                {
                    "uri": _SCOPE_URI,
                    "description": "Choose task-only or full-context response history",
                    "required": False,
                    "params": {"header": HISTORY_SCOPE, "values": ["context", "task"], "default": "context"},
                }
            ],
        },
        "defaultInputModes": inputs,
        "defaultOutputModes": outputs,
        "skills": [
            {
                "id": f"{assistant.assistant_id}-main",
                "name": f"{name} Capabilities",
                "description": described,
                "tags": ["assistant", "langgraph"],
                "examples": [],
                "inputModes": inputs,
                "outputModes": outputs,
                "metadata": {
                    "inputSchema": {
                        "required": schema.get("required") or [],
                        "properties": properties,
                        "supportsA2A": "messages" in properties,
                    }
                },
            }
        ],
        "version": api.settings.version,
    }


def _origin(request: web.Request) -> str:
    """Scheme and host by which the client has come: a proxy in front, which mostly ends TLS, says so."""
    scheme = header(request, "X-Forwarded-Proto").partition(",")[0].strip().lower()
    host = header(request, "X-Forwarded-Host").partition(",")[0].strip()
    if scheme not in ("http", "https"):
        scheme = request.scheme
    return f"{scheme}://{host if _HOST.fullmatch(host) else request.host}"


def _modes(given: Any) -> list[str]:
    return given if isinstance(given, list) and all(isinstance(mode, str) for mode in given) and given else _MODES
