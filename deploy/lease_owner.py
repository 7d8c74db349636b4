"""Lease owner: the name on a process's leases, and how a supervisor chooses it."""

from __future__ import annotations

import os
import socket
import uuid

OWNER = "THREADLOG_OWNER"


def owner_name(role: str) -> str:
    """The supervisor's choice, or a name that no other process has."""
    return os.environ.get(OWNER) or f"{socket.gethostname()}:{role}:{uuid.uuid4().hex[:12]}"
