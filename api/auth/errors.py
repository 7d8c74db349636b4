"""What the application's auth handlers raise, as responses."""

from __future__ import annotations

import logging

from threadlog.api.http.errors import ApiError

logger = logging.getLogger(__name__)


def http_error(error: Exception, where: str) -> ApiError:
    """An `HTTPException` (of langgraph_sdk, or of any framework: a status and a detail) as the response it means.

    Anything else is the application's mistake: a 500, its traceback in the server's log.
    """
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if isinstance(status, int) and 400 <= status <= 599:
        headers = {str(name): str(value) for name, value in (getattr(error, "headers", None) or {}).items()}
        return ApiError(status, str(detail), headers)
    if isinstance(error, ApiError):
        return error
    logger.error("the application's %s failed", where, exc_info=error)
    return ApiError(500, f"The application's {where} failed; the server's log says how")
