"""Testing kit for applications: a server in a fixture, scripted models, given/when/then for graphs, virtual time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threadlog.testing.model import ScriptedChatModel, ScriptEnded, call

if TYPE_CHECKING:
    from threadlog.testing.scenario import Input, Outcome, Resume, Scenario, Unexpected, given
    from threadlog.testing.server import LocalServer, ServerNotStarted, serve

__all__ = [
    "Input",
    "LocalServer",
    "Outcome",
    "Resume",
    "Scenario",
    "ScriptEnded",
    "ScriptedChatModel",
    "ServerNotStarted",
    "Unexpected",
    "call",
    "given",
    "serve",
]

_SERVER = ("LocalServer", "ServerNotStarted", "serve")


def __getattr__(name: str) -> Any:
    """What needs a server's parts is imported when it is asked for: an application with a scripted model has none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'server' if name in _SERVER else 'scenario'}"), name)
