"""The application's encryption handlers (`langgraph_sdk.Encryption`), called one way: bounded in time, results checked.

They run on a thread and an event loop of their own: one that blocks or never returns fails for the call that asked, and
the loop of the server goes on. A loop that is blocked is left to its handler, and another one takes the next calls.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from threadlog.engine.encryption_context import Context, InvalidContext, checked

if TYPE_CHECKING:
    from langgraph_sdk import Encryption

logger = logging.getLogger(__name__)

HANDLER_SECONDS = 10.0
"""What a handler gets for a call; a key management service mostly answers within one second."""
_BLOCKED_SECONDS = 1.0
_TIMEOUTS, _PAUSE_SECONDS = 3, 30.0  # circuit breaker: so many in a row in one context, and its calls fail at once
_CONTEXTS = 1000  # of which timeouts are remembered
_LEFT_BEHIND = 16  # loops whose handlers block, at most; then the last one is kept, and its calls fail

Handler = Callable[..., Awaitable[Any]]


class HandlerFailed(Exception):
    """A handler raised, took too long, or returned what it must not. The message is for who asked; `status`: of the
    response, 4xx where the handler refuses what it was asked."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class EncryptionHandlers:
    """The handlers of the application's object.

    Raises:
        ValueError: they can't be used; the message says why.
    """

    def __init__(
        self,
        encryption: Encryption,
        *,
        seconds: float = HANDLER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._clock = seconds, clock
        self._late: OrderedDict[tuple[str, bytes], tuple[int, float]] = OrderedDict()
        self._encrypt_blob, self._decrypt_blob = encryption._blob_encryptor, encryption._blob_decryptor
        self._encrypt_json, self._decrypt_json = encryption._json_encryptor, encryption._json_decryptor
        self._context = encryption._context_handler
        for kind, one, other in (
            ("blob", self._encrypt_blob, self._decrypt_blob), ("json", self._encrypt_json, self._decrypt_json),
        ):  # fmt: skip
            if (one is None) != (other is None):
                there, missing = ("decrypt", "encrypt") if one is None else ("encrypt", "decrypt")
                raise ValueError(f"it has {there}.{kind} and no {missing}.{kind}: register both")
        if self._encrypt_blob is None and self._encrypt_json is None:
            raise ValueError("it has no handlers: register encrypt.blob and decrypt.blob, or those for json, or all")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left_behind = 0

    @property
    def has_blob(self) -> bool:
        return self._encrypt_blob is not None

    @property
    def has_json(self) -> bool:
        return self._encrypt_json is not None

    @property
    def has_context(self) -> bool:
        return self._context is not None

    async def encrypt_blob(self, model: str, field: str, context: Context, data: bytes) -> bytes:
        assert self._encrypt_blob is not None
        result = await self._call("encrypt.blob", self._encrypt_blob, _told(model, field, context), data)
        return _bytes("encrypt.blob", result)

    async def decrypt_blob(self, model: str, field: str, context: Context, data: bytes) -> tuple[bytes, bytes | None]:
        """What was encrypted, and what is to be stored in place of `data`, if the handler says so."""
        assert self._decrypt_blob is not None
        result = await self._call("decrypt.blob", self._decrypt_blob, _told(model, field, context), data)
        result, replacement = _parts(result)
        return _bytes("decrypt.blob", result), None if replacement is None else _bytes("decrypt.blob", replacement)

    async def encrypt_json(self, model: str, field: str, context: Context, data: dict[str, Any]) -> dict[str, Any]:
        """An object with the same keys. `data` is the handler's to change."""
        assert self._encrypt_json is not None
        keys = data.keys() | set()
        result = await self._call("encrypt.json", self._encrypt_json, _told(model, field, context), data)
        encrypted = _object("encrypt.json", result)
        if encrypted.keys() != keys:
            raise HandlerFailed(
                "The application's encryption handler encrypt.json added or removed keys: it may only change values"
            )
        return encrypted

    async def decrypt_json(self, model: str, field: str, context: Context, data: dict[str, Any]) -> dict[str, Any]:
        assert self._decrypt_json is not None
        result = await self._call("decrypt.json", self._decrypt_json, _told(model, field, context), data)
        return _object("decrypt.json", _parts(result)[0])

    async def context(self, user: Any, context: Context) -> Context:
        """The context of a request of this user, of what its header says."""
        if self._context is None:
            return context
        result = await self._call("context", self._context, user, _told(None, None, context))
        try:
            return checked(result, "What the application's encryption handler context returned")
        except InvalidContext as error:
            raise HandlerFailed(str(error)) from None

    async def _call(self, name: str, handler: Handler, *args: Any) -> Any:
        circuit = (name, orjson.dumps(args[0].metadata if name != "context" else args[1].metadata))
        late, since = self._late.get(circuit, (0, 0.0))
        if late >= _TIMEOUTS and self._clock() - since < _PAUSE_SECONDS:
            raise HandlerFailed(f"The application's encryption handler {name} has not responded {late} times: wait")
        loop = self._running_loop()
        begun = threading.Event()
        work = asyncio.run_coroutine_threadsafe(_awaited(begun, handler, *args), loop)
        try:
            result = await asyncio.wait_for(asyncio.wrap_future(work), self._seconds)
            self._late.pop(circuit, None)
            return result
        except TimeoutError as error:
            if work.done() and not work.cancelled():  # the handler's own
                raise _failed(name, error) from error
            if begun.is_set():  # else another handler blocks the loop
                self._late[circuit] = (late + 1, self._clock())
                if len(self._late) > _CONTEXTS:
                    self._late.popitem(last=False)
            self._unless_it_turns(loop)
            logger.error("the application's encryption handler %s took longer than %g s", name, self._seconds)
            raise HandlerFailed(
                f"The application's encryption handler {name} took longer than {self._seconds:g} s"
            ) from None
        except Exception as error:
            raise _failed(name, error) from error

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="threadlog-encryption", daemon=True).start()
            return self._loop

    def _unless_it_turns(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop is left behind if it is blocked."""
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)

        def leave() -> None:
            with self._lock:
                if not turned.is_set() and self._loop is loop and self._left_behind < _LEFT_BEHIND:
                    self._loop, self._left_behind = None, self._left_behind + 1
                    logger.error("an encryption handler of the application blocks its event loop; another one goes on")

        asyncio.get_running_loop().call_later(_BLOCKED_SECONDS, leave)


async def _awaited(begun: threading.Event, handler: Handler, *args: Any) -> Any:
    begun.set()
    return await handler(*args)


def _told(model: str | None, field: str | None, context: Context) -> Any:
    from langgraph_sdk.encryption.types import EncryptionContext  # takes time to import, and is rarely needed

    return EncryptionContext(model=model, field=field, metadata=dict(context))


def _parts(result: Any) -> tuple[Any, Any]:
    """Plaintext and replacement of what a decrypt handler returned (`DecryptResult`, of later SDKs, has both)."""
    if hasattr(result, "plaintext") and hasattr(result, "replacement"):
        return result.plaintext, result.replacement
    return result, None


def _bytes(name: str, result: Any) -> bytes:
    if not isinstance(result, bytes | bytearray):
        raise HandlerFailed(
            f"The application's encryption handler {name} returned {type(result).__name__}; it must return bytes"
        )
    return bytes(result)


def _object(name: str, result: Any) -> dict[str, Any]:
    try:
        if isinstance(result, dict):
            return dict(orjson.loads(orjson.dumps(result)))
        found = type(result).__name__
    except TypeError as error:
        found = f"what is no JSON ({error})"
    raise HandlerFailed(f"The application's encryption handler {name} returned {found}; it must return a dict of JSON")


def _failed(name: str, error: Exception) -> HandlerFailed:
    """An `HTTPException` of any framework (a status and a detail) is the handler's answer, and so is a ValueError about
    what is to be encrypted, as on LangGraph Server; all else is its mistake."""
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if isinstance(status, int) and 400 <= status < 500:
        return HandlerFailed(str(detail), status)
    if type(error) is ValueError and not name.startswith("decrypt"):
        return HandlerFailed(f"{error}" or f"The application's encryption handler {name} raised ValueError", 400)
    logger.error("the application's encryption handler %s failed", name, exc_info=error)
    return HandlerFailed(
        f"The application's encryption handler {name} raised {type(error).__name__}; the server's log says how"
    )
