"""Testing kit for applications: a server in a fixture, scripted models, given/when/then for graphs, virtual time."""

from threadlog.testing.model import ScriptedChatModel, ScriptEnded, call
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
