"""Feedback links: LangSmith's presigned URLs, by which the user of an application rates a run without a key.

A run with `feedback_keys` has one URL per key, in the `feedback` event that ends its stream and in `__feedback__` of
its final values (contract 2.3, 2.5). LangSmith is asked when a client is at the run's end, once for each client: a URL
is valid for three hours from then on, and it is a credential, which the log must not keep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson

from threadlog.api.settings import LangSmith
from threadlog.projections.queries import runs
from threadlog.projections.queries.connection import Reader

logger = logging.getLogger(__name__)

_VALID = {"days": 0, "hours": 3, "minutes": 0}
_CONNECTIONS = 20


class FeedbackLinks:
    """Client of LangSmith's `/feedback/tokens`; `langsmith` None: there are no links. `aclose` it."""

    def __init__(self, langsmith: LangSmith | None) -> None:
        self._langsmith = langsmith
        self._session: aiohttp.ClientSession | None = None

    async def keys_of(self, db: Reader, run_id: str) -> list[str] | None:
        """The keys that a run was created with; None without any, or where there are no links anyway."""
        if self._langsmith is None:
            return None
        text = await runs.feedback_keys_of(db, run_id)
        return None if text is None else orjson.loads(text)

    async def of(self, run_id: str, keys: Sequence[str] | None) -> dict[str, str] | None:
        """Returns the URL of each key; None where there are none, or LangSmith does not give them: the run is over and
        well all the same."""
        langsmith = self._langsmith
        if langsmith is None or not keys:
            return None
        names = list(dict.fromkeys(keys))
        body = [
            {"run_id": run_id, "feedback_key": key, "feedback_config": None, "expires_in": _VALID, "expires_at": None}
            for key in names
        ]
        try:
            async with self._open(langsmith).post(
                f"{langsmith.endpoint.rstrip('/')}/feedback/tokens",
                data=orjson.dumps(body),
                headers=_headers(langsmith),
            ) as response:
                response.raise_for_status()
                tokens = orjson.loads(await response.read())
            return _urls(names, tokens)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.warning(
                "run %s: LangSmith gave no feedback links: %s: %s", run_id, type(error).__name__, error,
                extra={"run_id": run_id},
            )  # fmt: skip
            return None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # the connections are closed by the loop's next turn

    def _open(self, langsmith: LangSmith) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=langsmith.timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session


def _headers(langsmith: LangSmith) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "x-api-key": langsmith.api_key}
    if langsmith.workspace_id is not None:
        headers["X-Tenant-Id"] = langsmith.workspace_id
    return headers


def _urls(keys: list[str], tokens: Any) -> dict[str, str]:
    """LangSmith returns a token per entry, in their order.

    Raises:
        ValueError: it returned anything else.
    """
    if not isinstance(tokens, list) or len(tokens) != len(keys):
        raise ValueError(f"it returned no list of {len(keys)} tokens")
    urls: dict[str, str] = {}
    for key, token in zip(keys, tokens, strict=True):
        url = token.get("url") if isinstance(token, dict) else None
        if not isinstance(url, str):
            raise ValueError("a token has no URL")
        urls[key] = url
    return urls
