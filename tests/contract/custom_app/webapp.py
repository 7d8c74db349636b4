"""Routes, middleware and a lifespan of an application's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from langgraph_sdk import get_client
from starlette.middleware.base import BaseHTTPMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict]:
    yield {"greeting": "hello"}


app = FastAPI(lifespan=lifespan)


@app.get("/hello")
async def hello(request: Request) -> dict:
    return {"greeting": request.state.greeting}


@app.get("/where")
async def where(request: Request) -> dict:
    return {"hello": request.url_for("hello").path}


@app.get("/ok")
async def ok() -> dict:
    return {"ok": "not the server's"}


@app.get("/assistant-names")
async def assistant_names() -> list[str]:
    async with get_client() as client:  # this server, without a url
        return [assistant["name"] for assistant in await client.assistants.search()]


class Marked(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        if request.headers.get("x-blocked"):
            from starlette.responses import JSONResponse

            return JSONResponse({"detail": "not you"}, status_code=418)
        response = await call_next(request)
        response.headers["X-Marked"] = "yes"
        return response


app.add_middleware(Marked)
