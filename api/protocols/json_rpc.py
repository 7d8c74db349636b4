"""JSON-RPC 2.0: what a request says, and the objects of responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from threadlog.api.http.bodies import Body, JsonObject

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603


class RpcError(Exception):
    """The call fails; `code` is one of JSON-RPC's, or the protocol's own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class RpcErrorObject(TypedDict):
    code: int
    message: str


class RpcResponse(TypedDict):
    """`result` or `error`."""

    jsonrpc: str
    id: str | int | None
    result: NotRequired[Any]
    error: NotRequired[RpcErrorObject]


class RpcMessage(Body):
    """A request, a notification (without `id`) or a response (without `method`)."""

    jsonrpc: Literal["2.0"]
    id: str | int | None = None
    method: str | None = None
    params: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class RpcCall:
    """One request. `id` None: a notification, or a response, which gets no answer. `given`: its parameters, as sent."""

    id: str | int | None
    method: str | None
    given: Any

    @property
    def params(self) -> dict[str, Any]:
        """Raises `RpcError`: they are no object."""
        if self.given is None:
            return {}
        if not isinstance(self.given, dict):
            raise RpcError(INVALID_PARAMS, "params: must be an object")
        return self.given


def call_of(value: Any) -> RpcCall | None:
    """The request that a body is; None if it is none."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return None
    method, id_ = value.get("method"), value.get("id")
    if method is None:
        return RpcCall(None, None, None) if "result" in value or "error" in value else None
    if not isinstance(method, str) or not isinstance(id_, str | int | None) or isinstance(id_, bool):
        return None
    return RpcCall(id_, method, value.get("params"))


def succeeded(id_: str | int | None, result: Any) -> RpcResponse:
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def failed(id_: str | int | None, error: RpcError) -> RpcResponse:
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": error.code, "message": error.message}}
