"""Stream records of the last seconds, which a crash of the log's database may have made it forget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from threadlog.engine.log.port import Append

_SECONDS = 2.0  # stream appends are not flushed to disk by a Postgres log: wal_writer_delay x 3 = 0.6 s at most
_BYTES = 64 * 1024 * 1024


class RecentRecords:
    """Remembers what was appended of late."""

    def __init__(self) -> None:
        self._records: deque[tuple[float, Append]] = deque()
        self._bytes = 0

    def add(self, records: Iterable[Append]) -> None:
        now = time.monotonic()
        for record in records:
            self._records.append((now, record))
            self._bytes += len(record.value)
        since = now - _SECONDS
        while self._records and (self._records[0][0] < since or self._bytes > _BYTES):
            _, record = self._records.popleft()
            self._bytes -= len(record.value)

    def take(self) -> list[Append]:
        """Those of the last seconds, in order; they are forgotten here."""
        since = time.monotonic() - _SECONDS
        taken = [record for at, record in self._records if at >= since]
        self._records.clear()
        self._bytes = 0
        return taken
