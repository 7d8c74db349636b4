"""The application's `auth`: loaded for the api, and how the application's own clients pass it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import Any

import asyncpg

from threadlog.api.auth.gate import Gate
from threadlog.deploy.compose.environment import api_url
from threadlog.deploy.settings import Settings
from threadlog.engine.user_code.auth_section import AuthSection
from threadlog.engine.user_code.importing import object_of
from threadlog.engine.user_code.langgraph_json import ConfigError, LanggraphJson
from threadlog.engine.user_code.langgraph_json import load as load_langgraph_json
from threadlog.projections.queries.system import loopback_token

log = logging.getLogger("threadlog")


async def gate_of(settings: Settings, app: LanggraphJson, pool: asyncpg.Pool) -> Gate | None:
    """The gate that `auth` asks for, None if nothing does.

    Raises:
        ConfigError: what `auth.path` names can't be loaded or used.
    """
    if app.auth is None:
        return None
    from threadlog.engine.user_code import loopback  # takes time to import, and is not needed otherwise

    token = await loopback_token(pool)
    loopback.install(api_url(settings, app))  # the module may make clients; so may its handlers
    loopback.authorize(token)
    # Without a running event loop, as graphs are imported.
    auth = await asyncio.to_thread(load_auth, app, app.auth)
    studio = _studio(settings, app.auth)
    if studio:
        log.warning(
            "requests with the header x-auth-scheme: langsmith are let in as StudioUser without credentials; "
            "auth.disable_studio_auth in langgraph.json ends that"
        )
    try:
        return Gate(
            auth,
            app.auth,
            token=token,
            studio=studio,
            custom_routes=app.http.enable_custom_route_auth,
            first=app.http.middleware_order == "auth_first",
        )
    except ValueError as error:
        raise ConfigError(app.path, "auth.path", f"{error}.") from None


def load_auth(app: LanggraphJson, section: AuthSection) -> Any:
    """The `Auth` object of the application. Raises `ConfigError`."""
    from langgraph_sdk import Auth

    return object_of(app, "auth.path", section.source, section.attribute, Auth, is_file=section.is_file)


async def authorize_loopback(settings: Settings, uri: str) -> None:
    """Let the clients that user code makes without a url pass the api's authentication, if it has one."""
    if load_langgraph_json(settings.config).auth is None:
        return
    from threadlog.engine.user_code import loopback

    connection = await asyncpg.connect(uri)
    try:
        loopback.authorize(await loopback_token(connection))
    finally:
        await connection.close()


def _studio(settings: Settings, section: AuthSection) -> bool:
    """Studio's requests prove nothing here: they are let in where only this machine can send them, or where
    `disable_studio_auth` is explicitly false."""
    if section.disable_studio_auth is not None:
        return not section.disable_studio_auth
    if settings.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        return False
