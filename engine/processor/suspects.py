"""Which command makes the engine fail in a way that nobody has thought of: found by trying one by one, and refused.

Failures that are known have a better answer each: a log or database that is away is waited for, what can't be decided,
encoded, appended or stored is refused at once. This is for the rest, so that not even a bug of ours lets one command
hold up the others: without it the same commands would be read again and fail again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from threadlog.engine.log.records import CommandEnvelope, RefusedEnvelope
from threadlog.engine.processor.committer import Submission, Turn

log = logging.getLogger(__name__)

# Before each of them the partition's new term was announced, read back and projected: log and database work.
TRIES = 3

_MOST = 10_000

Suspect = tuple[int, int] | Submission
"""A command of the log by partition and offset, or one of this process."""


class Suspects:
    """Counts failures of commands that were alone in their transaction."""

    def __init__(self) -> None:
        self._failures: dict[Suspect, int] = {}
        self._refused: dict[tuple[int, int], str] = {}

    def judged(self, partition: int, offset: int, envelope: CommandEnvelope) -> CommandEnvelope:
        """The command to decide in the place of the one at this offset of the log: nearly always that one."""
        reason = self._refused.get((partition, offset)) if self._refused else None
        return envelope if reason is None else RefusedEnvelope.instead_of(envelope, reason)

    def failed(self, turns: Sequence[Turn], error: Exception) -> int:
        """Deciding or committing these turns failed. Returns how many commands to try one by one."""
        suspects = [suspect for turn in turns for suspect in _commands(turn)]
        if len(suspects) != 1:
            return len(suspects)
        (suspect,) = suspects
        failures = self._failures[suspect] = self._failures.get(suspect, 0) + 1
        if failures == TRIES:
            reason = f"it makes the engine fail: {type(error).__name__}: {error}"
            if isinstance(suspect, Submission):
                envelope = suspect.envelope
                log.error("command %s of this process is refused: %s", envelope.id, reason, extra=envelope.log_fields)
                suspect.refuse(reason)
            else:
                place = {"partition": suspect[0], "offset": suspect[1]}
                log.error("the command at %d[%d] is refused: %s", *suspect, reason, extra=place)
                self._refused[suspect] = reason
        if len(self._failures) > _MOST:
            self._failures.clear()
        return 1

    def passed(self, turns: Sequence[Turn]) -> None:
        """These turns were committed, or are on their way."""
        if self._failures:
            for turn in turns:
                for suspect in _commands(turn):
                    if self._failures.pop(suspect, 0) >= TRIES and not isinstance(suspect, Submission):
                        self._refused.pop(suspect, None)


def _commands(turn: Turn) -> list[Suspect]:
    return [*((turn.term.partition, offset) for offset, _ in turn.commands), *turn.local]
