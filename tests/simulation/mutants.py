"""Mutants: engines with one fault each, of which the simulation has to notice that they violate an invariant.

A fault is put into the product's own code, for one test. 1, 2 and 15 have their controls in `scenario.run`; what
violates 3 violates 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest import MonkeyPatch

from threadlog.engine.domain import attempt_decisions, cron, decider, keyed_request, thread, thread_decisions
from threadlog.engine.domain.commands import (
    BeginRequest,
    CancelRun,
    Command,
    CreateRun,
    ExpireItems,
    ExpireLease,
    ReportRun,
    WriteItems,
)
from threadlog.engine.domain.decider import States
from threadlog.engine.domain.events import Event, RunInterrupted
from threadlog.engine.domain.keyed_request import KEYED, KeyedRequest
from threadlog.engine.domain.thread import Thread
from threadlog.engine.log.records import CommandEnvelope, EventRecord
from threadlog.engine.processor.term import Term

Mutate = Callable[[MonkeyPatch], None]


def retracted_states_stay(patch: MonkeyPatch) -> None:
    """A transaction that is rolled back leaves the states that its decisions led to."""
    retract = Term.retract

    def forgetful(self: Term) -> None:
        after = dict(self._states)
        retract(self)
        self._states.update(after)

    patch.setattr(Term, "retract", forgetful)


def the_next_attempt_has_the_same_number(patch: MonkeyPatch) -> None:
    patch.setattr(attempt_decisions, "_again", lambda s, slot: thread.attempt_of(s, slot, slot.attempt))


def a_new_run_does_not_wait_for_the_slot(patch: MonkeyPatch) -> None:
    create = thread_decisions._create_run
    _instead(patch, CreateRun, lambda s, c, at: create(s._replace(slot=None), c, at))


def a_queued_run_is_forgotten(patch: MonkeyPatch) -> None:
    enqueue = thread._enqueue
    patch.setattr(thread, "_enqueue", lambda s, w: s if s.queue else enqueue(s, w))


def reports_are_not_fenced(patch: MonkeyPatch) -> None:
    report = attempt_decisions.report_run

    def unfenced(s: Thread, c: ReportRun, at: str) -> list[Event]:
        if s.slot is not None:
            c = replace(c, run_id=s.slot.run_id, attempt=s.slot.attempt)
        return report(s, c, at)

    _instead(patch, ReportRun, unfenced)


def what_is_lost_is_not_tried_again(patch: MonkeyPatch) -> None:
    _instead(patch, ExpireLease, lambda s, c, at: [])


def no_sender_is_recognised(patch: MonkeyPatch) -> None:
    patch.setattr(decider, "_remembered", lambda recent, cmd_id: ())


def a_cancellation_ends_what_has_ended(patch: MonkeyPatch) -> None:
    cancel = thread_decisions._cancel_run

    def once_more(s: Thread, c: CancelRun, at: str) -> list[Event]:
        if s.slot is None and c.run_id in s.runs and not s.waiting(c.run_id):
            return [RunInterrupted(thread_id=s.thread_id, run_id=c.run_id)]
        return cancel(s, c, at)

    _instead(patch, CancelRun, once_more)


def a_refusal_says_nothing(patch: MonkeyPatch) -> None:
    def silent(
        self: Term, offset: int, envelope: CommandEnvelope, before: States, error: Exception
    ) -> tuple[States, EventRecord]:
        return before, self._record(offset, envelope, [])

    patch.setattr(Term, "_refuse", silent)


def the_reason_of_a_cancellation_is_lost(patch: MonkeyPatch) -> None:
    patch.setattr("threadlog.engine.domain.cancelling.is_interrupt", lambda error: False)


def a_sweep_removes_what_is_alive(patch: MonkeyPatch) -> None:
    def all_of_it(s: Any, command: Command, *, cmd_id: str, at: str) -> list[Event]:
        if isinstance(command, ExpireItems):
            command = replace(command, before="9999-01-01T00:00:00.000000+00:00")
        return decider.STORE.decide(s, command, cmd_id=cmd_id, at=at)

    _decided_by(patch, ExpireItems, all_of_it)


def puts_overtake_deletions(patch: MonkeyPatch) -> None:
    def puts_first(s: Any, command: Command, *, cmd_id: str, at: str) -> list[Event]:
        if isinstance(command, WriteItems):
            command = replace(command, ops=sorted(command.ops, key=lambda op: "delete" in op))
        return decider.STORE.decide(s, command, cmd_id=cmd_id, at=at)

    _decided_by(patch, WriteItems, puts_first)


def a_thread_expires_when_asked_to(patch: MonkeyPatch) -> None:
    patch.setattr(thread_decisions, "is_over", lambda ttl, since, at: True)


def a_cron_fires_whenever_it_is_told_to(patch: MonkeyPatch) -> None:
    fire = cron._fire
    patch.setattr(cron, "_fire", lambda s, c, at: fire(s._replace(next_due_at=c.due_at, pending=None), c, at))


def the_commands_of_a_key_are_forgotten(patch: MonkeyPatch) -> None:
    remembered = decider._remembered
    patch.setattr(decider, "_remembered", lambda recent, id: recent if id.startswith(KEYED) else remembered(recent, id))


def what_aggregates_forget_is_not_looked_up(patch: MonkeyPatch) -> None:
    patch.setattr(Term, "_remember", lambda self, entry: None)
    patch.setattr(Term, "doubted", lambda self, envelopes: [])


def a_key_is_claimed_twice(patch: MonkeyPatch) -> None:
    def begun(s: KeyedRequest, command: Command, *, cmd_id: str, at: str) -> list[Event]:
        return keyed_request.decide(KeyedRequest(s.request_id), command, cmd_id=cmd_id, at=at)

    _decided_by(patch, BeginRequest, begun)


def a_request_is_answered_twice(patch: MonkeyPatch) -> None:
    evolve = keyed_request.evolve
    changed = replace(decider.REQUEST, evolve=lambda s, event, at: evolve(s, event, at)._replace(answered=False))
    for event in decider.REQUEST.events:
        patch.setitem(decider._BY_EVENT, event, changed)


MUTANTS: tuple[tuple[str, Mutate], ...] = (
    ("I4", retracted_states_stay),
    ("I5", the_next_attempt_has_the_same_number),
    ("I6", a_new_run_does_not_wait_for_the_slot),
    ("I7", a_queued_run_is_forgotten),
    ("I8", reports_are_not_fenced),
    ("I9", what_is_lost_is_not_tried_again),
    ("I10", no_sender_is_recognised),
    ("I11", a_cancellation_ends_what_has_ended),
    ("I12", a_refusal_says_nothing),
    ("I13", the_reason_of_a_cancellation_is_lost),
    ("I14", a_sweep_removes_what_is_alive),
    ("I14", puts_overtake_deletions),
    ("I16", a_thread_expires_when_asked_to),
    ("I17", a_cron_fires_whenever_it_is_told_to),
    ("I18", the_commands_of_a_key_are_forgotten),
    ("I18", what_aggregates_forget_is_not_looked_up),
    ("I18", a_key_is_claimed_twice),
    ("I18", a_request_is_answered_twice),
)
"""By the invariant that each violates, if no other is noticed first."""


def _instead(patch: MonkeyPatch, command: type[Command], decide: Callable[..., list[Event]]) -> None:
    """Of a thread."""
    patch.setitem(thread_decisions._DECISIONS, command, decide)


def _decided_by(patch: MonkeyPatch, command: type[Command], decide: Callable[..., list[Event]]) -> None:
    """Of another aggregate."""
    patch.setitem(decider._BY_COMMAND, command.type, replace(decider.aggregate_of(command.type), decide=decide))
