"""The acceptance rule: which records of `events` count. Every reader of the topic applies it, in offset order."""

from __future__ import annotations

from typing import TypeGuard

from threadlog.engine.log.records import EventRecord


class Acceptance:
    """Tells zombies', duplicate and orphaned records from those that count.

    `epoch`: the highest announced so far; `cmd_off`: that of the last accepted record. A reader that resumes passes
    what it had; one that starts where retention left off, or in the middle, passes None and takes the first record as
    it comes. That one need not count, as what it was decided after was not seen; which records do, is certain from the
    next announcement on.
    """

    def __init__(self, epoch: int = 0, cmd_off: int | None = -1) -> None:
        self.epoch, self.cmd_off = epoch, cmd_off
        self._certain = cmd_off is not None

    def accepts(self, record: EventRecord | None) -> TypeGuard[EventRecord]:
        """Whether this record counts. False for announcements: they carry no events; and for what is not an event
        record (None, see `engine.log.unreadable`)."""
        if record is None:
            return False
        if record.epoch < self.epoch:
            return False  # a zombie: a newer term has announced itself
        if not self._certain and (record.start or record.epoch > self.epoch):
            self.cmd_off = None  # what was taken as it came may have been a zombie's, or an orphan
            self._certain = record.start
        self.epoch = record.epoch
        if record.start:
            return False
        if self.cmd_off is not None:
            if record.cmd_off <= self.cmd_off:
                return False  # a duplicate
            if record.after is not None and record.after != self.cmd_off:
                return False  # an orphan: the record it was decided after did not get into the log
        self.cmd_off = record.cmd_off
        return True


class MidwayAcceptance(Acceptance):
    """The rule for a reader that begins somewhere in the middle of a partition, where nothing tells it what was last.

    It takes a record as it comes until one follows that was decided after it. Until it sees an announcement, a record
    of a higher epoch shows that those before were a zombie's. Begin some records before those that matter.
    """

    def __init__(self) -> None:
        super().__init__(0, None)
        self._certain = True  # what is taken on trust is found out here, by what follows it
        self._confirmed = False
        self._announced = False

    def accepts(self, record: EventRecord | None) -> TypeGuard[EventRecord]:
        if record is not None and record.start:
            self._announced = self._announced or record.epoch > self.epoch
        elif record is not None and record.epoch >= self.epoch:
            if record.epoch > self.epoch and not self._announced:
                self._confirmed = False
            if not self._confirmed and self.cmd_off is not None:
                self._confirmed = record.after == self.cmd_off or (
                    record.after is None and record.epoch == self.epoch and record.cmd_off > self.cmd_off
                )
                if not self._confirmed:
                    self.cmd_off = None
        return super().accepts(record)
