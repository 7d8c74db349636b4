"""Error translation: failures that the user can mend, each with the sentence that says how."""

from __future__ import annotations

import errno
from dataclasses import dataclass


class CannotRun(Exception):
    """This process cannot work as it is set up; the message says what to change."""


class DatabaseAway(Exception):
    """Postgres did not answer in time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """`hopeless`: starting the process again as it is set up cannot help."""

    sentence: str
    hopeless: bool


def readable(error: BaseException) -> Failure | None:
    """The failure behind an exception; None when it is a bug, whose traceback is wanted."""
    # Imported when something has failed: a supervisor that starts its processes should not wait for these.
    import asyncpg

    from threadlog.deploy.postgres import PostgresFailed
    from threadlog.deploy.settings import BadSettings
    from threadlog.engine.log.port import LogUnavailable
    from threadlog.engine.user_code.langgraph_json import ConfigError
    from threadlog.projections.schema import PartitionsFixed, SchemaTooNew

    if type(error).__name__ == "BadPrices":
        return Failure(f"THREADLOG_PRICES: {error}", hopeless=False)
    match error:
        case CannotRun() | PostgresFailed() | ConfigError() | BadSettings():
            return Failure(str(error), hopeless=True)
        case SchemaTooNew() | PartitionsFixed():
            return Failure(f"{error}. Set DATABASE_URI to another database, or THREADLOG_PARTITIONS.", hopeless=True)
        case DatabaseAway() | LogUnavailable():
            return Failure(str(error), hopeless=False)
        case OSError(errno=errno.EADDRINUSE | errno.EACCES | errno.EADDRNOTAVAIL):
            return Failure(f"cannot listen there: {error.strerror}. Choose another --host or --port.", hopeless=True)
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return Failure(f"Postgres refused DATABASE_URI: {error}", hopeless=True)
        case asyncpg.InvalidCatalogNameError():
            return Failure(f"the database of DATABASE_URI does not exist: {error}. Create it first.", hopeless=True)
        case asyncpg.InsufficientPrivilegeError():
            return Failure(f"the user of DATABASE_URI may not make tables: {error}", hopeless=True)
        case asyncpg.UndefinedFileError() | asyncpg.DataCorruptedError() | asyncpg.IndexCorruptedError():
            return Failure(
                f"the database's files are damaged or missing: {error}. Restore them from a copy, or choose another "
                "database (--data-dir, DATABASE_URI).",
                hopeless=True,
            )
        case _:
            return None
