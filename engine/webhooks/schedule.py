"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_SECONDS = 3600.0
RETRY_AFTER_SECONDS = 86_400.0
_FACTOR = 4.0
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """`attempts` in all. The first wait has `first_seconds`, each further one is four times as long, an hour at most,
    and all are a fifth longer or shorter by chance."""

    attempts: int = 8
    first_seconds: float = 5.0

    def wait(self, attempt: int, chance: float, retry_after: float | None = None) -> float | None:
        """Seconds between this attempt, which failed, and the next; None after the last one.

        `chance`: a number from 0 to 1. `retry_after`: what the receiver asked for, honoured up to a day.
        """
        if attempt >= self.attempts:
            return None
        seconds = min(self.first_seconds * _FACTOR ** min(attempt - 1, 20), MOST_SECONDS)
        seconds *= 1 + _JITTER * (2 * chance - 1)
        return seconds if retry_after is None else max(seconds, min(retry_after, RETRY_AFTER_SECONDS))


def retry_after(header: str | None, now: datetime) -> float | None:
    """The seconds that a header `Retry-After` names, as a number or as a time; None for anything else."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header.strip()[:10])
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
