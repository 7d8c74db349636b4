"""Process environment: its own, overridden by `env` of the application's `langgraph.json`."""

from __future__ import annotations

import os

from pydantic import AliasChoices

from threadlog.deploy.lease_owner import OWNER
from threadlog.deploy.logs import PROCESS_NAME
from threadlog.deploy.parent import PARENT_PID
from threadlog.deploy.settings import Settings
from threadlog.deploy.supervise.pulse import PULSE
from threadlog.engine.user_code.langgraph_json import LanggraphJson

_OURS = frozenset({OWNER, PARENT_PID, PROCESS_NAME, PULSE})


def supervised() -> bool:
    """Whether a supervisor has started this process, with settings that are complete."""
    return PROCESS_NAME in os.environ


def apply(app: LanggraphJson) -> None:
    """Put the application's `env` into this process' environment: the file wins, as on LangGraph's own server.

    Not over what a supervisor hands on: it has read the same file, and its command line wins over that.
    """
    app.apply_env(keep=_OURS | _setting_names() if supervised() else _OURS)


def api_url(settings: Settings, app: LanggraphJson) -> str:
    """Where user code reaches the api: with the prefix that the application mounts it at."""
    return settings.url_of_the_api if settings.api_url else f"{settings.url_of_the_api}{app.http.mount_prefix}"


def _setting_names() -> frozenset[str]:
    names: set[str] = set()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names.update(map(str, alias.choices) if isinstance(alias, AliasChoices) else [str(alias)])
    return frozenset(names)
