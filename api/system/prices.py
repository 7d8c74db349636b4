"""Price handler: GET /prices returns what tokens of models cost, by the file of THREADLOG_PRICES."""

from __future__ import annotations

from aiohttp import web
from typing_extensions import TypedDict

from threadlog.api.auth.gate import allowed
from threadlog.api.context import api_of
from threadlog.api.http.responses import reply
from threadlog.api.http.routes import Route, requires


class PriceResponse(TypedDict):
    """Per million tokens. `model`: a name, or a pattern with `*` and `?`; the exact name counts before the first
    pattern that fits. `cache_read`: of the input, what a cache had."""

    model: str
    input: float
    output: float
    cache_read: float


class PricesResponse(TypedDict):
    """What models cost, in the order in which patterns count; none if the server has no prices."""

    prices: list[PriceResponse]


@requires("usage.read")
async def prices(request: web.Request) -> web.Response:
    """Return what tokens of models cost; whoever may see usage may see it.

    GET /prices (threadlog's own, docs/usage.md).
    """
    await allowed(request, "usage.read", {})
    rows: list[PriceResponse] = [
        {
            "model": model,
            "input": float(price.input),
            "output": float(price.output),
            "cache_read": float(price.cache_read),
        }
        for model, price in api_of(request).settings.prices
    ]
    return reply(PricesResponse(prices=rows))


routes = [Route("GET", "/prices", prices, "What tokens of models cost", returns=PricesResponse)]
