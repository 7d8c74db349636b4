"""How clients are told of a run's error: its class, and its text unless the server is to keep that to itself."""

from __future__ import annotations

import asyncio
from typing import Any

from threadlog.engine.domain.text import storable


class ContentUnreadable(RuntimeError):
    """The content of a run is encrypted, and this executor can't decrypt it."""

    def __init__(self) -> None:
        super().__init__(
            "The run's input is encrypted and its key is not there: the thread was deleted when the run was created, "
            "or this executor lacks the server's LANGGRAPH_AES_KEY."
        )


HIDDEN = "An internal error occurred"

# Kinds whose text is meant to be read, as on LangGraph's own server. Others say what was going on inside: paths, hosts,
# statements of a database.
_EXPECTED = (ValueError, RuntimeError, TypeError, AttributeError, KeyError, TimeoutError, asyncio.CancelledError)

_hiding = False


def hide_unexpected(hide: bool) -> None:
    """Whether clients are from now on not told the text of unexpected errors. Of this process, before runs begin."""
    global _hiding
    _hiding = hide


def describe_error(error: BaseException) -> dict[str, Any]:
    """`{error: class name, message}` as clients see it."""
    return {"error": type(error).__name__, "message": HIDDEN if _is_hidden(error) else _text(error)}


def shown_in_state(error: Any) -> Any:
    """The error of a task as it is to be stored: clients see its `repr`."""
    if isinstance(error, BaseException) and _is_hidden(error):
        return f"{type(error).__name__}({HIDDEN!r})"
    if isinstance(error, BaseException):
        try:
            repr(error).encode()
        except BaseException:  # its name or the user's `__repr__`: the error is the user's all the same
            return storable(f"{type(error).__name__}({_text(error)!r})")
    return error


def _is_hidden(error: BaseException) -> bool:
    if not _hiding or isinstance(error, _EXPECTED):
        return False
    return not any(kind.__module__.partition(".")[0] == "langgraph" for kind in type(error).__mro__)


def _text(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "backslashreplace").decode()
    except BaseException as failure:  # the user's `__str__` may do anything
        return f"(its message can't be told: {type(failure).__name__})"
