"""Protocol errors: what a command of the event-streaming protocol is answered with when it can't be carried out."""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "invalid_argument",
    "unknown_command",
    "unknown_error",
    "no_such_run",
    "no_such_subscription",
    "no_such_namespace",
    "no_such_interrupt",
    "no_such_checkpoint",
    "permission_denied",
    "not_supported",
]


class ProtocolError(Exception):
    """Ends the command, not the request: the response is 200 with this code and text."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message
