"""How asyncpg reports that Postgres can't be reached, or that a statement failed: the sets to catch."""

from __future__ import annotations

import asyncpg

# The server can't be reached, or the connection ended while it was in use.
AWAY = (
    OSError,  # TimeoutError included
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
# What a reader waits out: the same, and a server without memory, disk or connections left, or told to cancel.
PASSING = (*AWAY, asyncpg.InsufficientResourcesError, asyncpg.OperatorInterventionError)
# Of these the server says itself that the transaction did not happen; after what else ends a connection it may have.
NOT_COMMITTED = (asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.TooManyConnectionsError)
# Whatever a statement or a connection attempt may raise.
FAILED = (asyncpg.PostgresError, *AWAY)
