"""CORS policy: which origins may call the api, and which response headers their scripts may read."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from threadlog.api.http.errors import error_body
from threadlog.api.settings import Cors


class CorsPolicy:
    """Responds to preflights and adds the CORS headers to responses."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._any_origin = "*" in cors.allow_origins
        self._any_header = "*" in cors.allow_headers
        self._any_method = "*" in cors.allow_methods
        self._methods = ", ".join(cors.allow_methods)
        self._expose = ", ".join(cors.expose_headers)
        self._allowed_headers = {h.lower() for h in cors.allow_headers}

    def allows(self, origin: str) -> bool:
        if self._any_origin or origin in self._cors.allow_origins:
            return True
        pattern = self._cors.allow_origin_regex
        return pattern is not None and pattern.fullmatch(origin) is not None

    def preflight(self, request: web.Request) -> web.Response | None:
        """The response to a preflight; None when the request is not a preflight."""
        method = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or method is None:
            return None
        refused = []
        if not self.allows(request.headers.get("Origin", "")):
            refused.append("origin")
        if not self._any_method and method not in self._cors.allow_methods:
            refused.append("method")
        requested_headers = request.headers.get("Access-Control-Request-Headers")
        if requested_headers is not None and not self._any_header:
            safe = self._allowed_headers | {"accept", "accept-language", "content-language", "content-type"}
            if any(h.strip().lower() not in safe for h in requested_headers.split(",")):
                refused.append("headers")
        if refused:
            detail = f"Disallowed CORS {', '.join(refused)}"
            return web.json_response(error_body(detail, "origin_not_allowed"), status=400)
        headers = {
            "Access-Control-Allow-Methods": ", ".join(Cors().allow_methods) if self._any_method else self._methods,
            "Access-Control-Max-Age": str(self._cors.max_age_seconds),
            "Access-Control-Allow-Private-Network": "true",
        }
        if requested_headers is not None:
            headers["Access-Control-Allow-Headers"] = requested_headers
        elif not self._any_header:
            headers["Access-Control-Allow-Headers"] = ", ".join(self._cors.allow_headers)
        return web.Response(status=200, headers=headers)

    def mark(self, request: web.Request, headers: CIMultiDict[str]) -> None:
        """Add what every response to this request carries."""
        vary = headers.get("Vary", "")
        if "origin" not in vary.lower():
            headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        origin = request.headers.get("Origin")
        if origin is None or not self.allows(origin):
            return
        # A wildcard must not be combined with credentials: browsers refuse that.
        if self._any_origin and not self._cors.allow_credentials:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            headers["Access-Control-Allow-Origin"] = origin
        if self._cors.allow_credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        if self._expose:
            headers["Access-Control-Expose-Headers"] = self._expose
