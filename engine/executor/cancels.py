"""What a node sees of why its run was cancelled."""

from __future__ import annotations


class UserInterrupt(Exception):
    """Why a node is cancelled: in the arguments of its `CancelledError`, saying the run's `cancel_reason`."""


class UserRollback(Exception):
    """Likewise, for a run of which nothing is to be left."""


CANCELS: dict[str, tuple[type[Exception], str]] = {
    "interrupt": (UserInterrupt, "interrupt requested"),
    "rollback": (UserRollback, "rollback requested"),
    "delete": (UserRollback, "the run or its thread was deleted"),
}
