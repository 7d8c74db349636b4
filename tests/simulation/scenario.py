"""One seed from an empty world to quiescence: who does what, in which order, with which faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tests.simulation import checks
from tests.simulation.actors import LEASE, Executor, Owner
from tests.simulation.simulated_world import SimulatedWorld, iso, uid
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import (
    CancelAction,
    CancelRun,
    CreateRun,
    CreateThread,
    DeleteRun,
    DeleteThread,
    PruneThread,
    UpdateState,
    UpdateThread,
)

THREADS = 5
STEPS = 700
RECENT_KEYED = 2


@dataclass(frozen=True)
class Outcome:
    """What a seed amounted to."""

    commands: int
    records: int
    terms: int
    pieces: int
    """Projections of take-overs that had more to read back."""
    given_up: int
    """Take-overs that ended after such a projection."""
    poison: int
    """Commands of which one stage had to fail."""
    unreadable: int
    """Records of `events` that are not event records."""
    posts: int
    """Webhooks sent, each attempt."""
    firings: int
    """Of crons."""
    answers: int
    """Requests with an idempotency key that were answered."""
    skips: int
    """Events left out of the read models."""
    expired: int
    """Threads that were deleted or pruned as their ttl says."""
    too_early: int
    """Commands to do so that were refused, as the thread was busy, or had been active."""


class Scenario:
    def __init__(self, world: SimulatedWorld) -> None:
        self.world = world
        self.postgres = world.chance(0.3)
        self.max_keys = world.random.choice((1, 2, 100))
        self.owners: list[Owner] = []
        self.executors: list[Executor] = []
        self.runs: list[tuple[str, str]] = []
        for _ in range(2):
            self._start_executor()
        for p in world.partitions:
            self._take_over(p.number)

    def _take_over(self, p: int) -> Owner:
        owner = Owner(self.world, self.world.partitions[p], postgres=self.postgres, max_keys=self.max_keys)
        self.owners.append(owner)
        return owner

    def _start_executor(self) -> None:
        self.executors.append(Executor(self.world, f"x{len(self.executors)}"))

    # --- clients -----------------------------------------------------------------------------------------------------

    def client(self) -> None:
        world = self.world
        rnd, skew = world.random, world.random.uniform(-1, 1)
        thread_id = uid(rnd.randrange(THREADS))
        run = rnd.choice(self.runs[-6:]) if self.runs else (thread_id, uid(0))
        x = rnd.random()
        if x < 0.5:
            run_id = uid(1000 + world.next_id())
            self.runs.append((thread_id, run_id))
            command = CreateRun(
                thread_id=thread_id,
                run_id=run_id,
                graph_id="g",
                run=world.receivers.run() if world.receivers is not None else {},
                multitask_strategy=rnd.choice(("enqueue", "enqueue", "interrupt", "rollback", "reject")),
                due_at=iso(world.now + rnd.choice((0, 5, 40))) if rnd.random() < 0.2 else None,
                create_thread={} if rnd.random() < 0.8 else None,
                temporary=rnd.random() < 0.1,
                thread_ttl=world.ttl(),
            )
            return world.send(None, command, skew=skew)
        if x < 0.7:
            action: CancelAction = rnd.choice(("interrupt", "rollback"))
            return world.send(
                None, CancelRun(thread_id=run[0], run_id=run[1], action=action, reason=f"cancel {run[1]}"), skew=skew
            )
        if x < 0.78:
            return world.send(None, DeleteRun(thread_id=run[0], run_id=run[1]), skew=skew)
        if x < 0.82:
            return world.send(None, DeleteThread(thread_id=thread_id), skew=skew)
        if x < 0.88:
            again: Literal["raise", "do_nothing"] = rnd.choice(("raise", "do_nothing"))
            return world.send(None, CreateThread(thread_id=thread_id, if_exists=again, ttl=world.ttl()), skew=skew)
        if x < 0.91:
            update_thread = UpdateThread(thread_id=thread_id, metadata={"n": world.next_id()}, ttl=world.ttl())
            return world.send(None, update_thread, skew=skew)
        if x < 0.93:
            return world.send(None, PruneThread(thread_id=thread_id), skew=skew)
        job_id = uid(1000 + world.next_id())
        update = UpdateState(thread_id=thread_id, job_id=job_id, graph_id="g", supersteps=[])
        return world.send(None, update, skew=skew)

    # --- the run -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        world = self.world
        rnd = world.random
        world.now += 0.25
        world.use_store()
        world.use_crons()
        world.use_keys()
        world.poison()
        world.poison_events()
        x = rnd.random()
        living = [owner for owner in self.owners if owner.alive]
        if x < 0.055:
            self.client()
        elif x < 0.065 and world.sent:
            world.send_again()
        elif x < 0.17:
            world.deliver_command()
        elif x < 0.40:
            rnd.choice(self.executors).step(faults=True)
        elif x < 0.415 and self.executors:
            self._disturb_executor(rnd.choice(self.executors))
        elif x < 0.51 and (sending := [owner for owner in self.owners if owner.wire]):
            rnd.choice(sending).deliver(faults=True)
        elif x < 0.59 and (committing := [owner for owner in self.owners if owner.transaction]):
            rnd.choice(committing).commit(faults=True)
        elif x < 0.61:
            p = rnd.randrange(len(world.partitions))
            rivals = [owner for owner in living if owner.p.number == p]
            # Also while the old owner still runs: its lease has passed, whatever it believes.
            if all(owner.paused for owner in rivals) or (len(rivals) < 3 and world.fault(0.5)):
                self._take_over(p)
        elif x < 0.62 and living:
            if world.fault(0.7):
                rnd.choice(living).die("crash")
        elif x < 0.63 and living:
            owner = rnd.choice(living)
            owner.paused = not owner.paused
        elif x < 0.64:
            world.trim(rnd.choice(world.partitions))
        elif living:
            rnd.choice(living).step(faults=True)

    def _disturb_executor(self, executor: Executor) -> None:
        if self.world.chance(0.7):
            executor.paused = not executor.paused
        elif executor.alive:
            executor.alive = False
            self._start_executor()

    def quiesce(self) -> None:
        """No more faults: what is under way lands or is lost, one owner per partition and one executor go on."""
        world = self.world
        if world.cron_clients is not None:
            world.cron_clients.closing = True
        if world.keyed_clients is not None:
            world.keyed_clients.closing = True
        for owner in self.owners:
            owner.die("crash")
            while owner.wire:
                if world.chance(0.5):
                    owner.deliver(faults=False)
                else:
                    owner.wire.popleft()
            if world.chance(0.5):
                owner.commit(faults=False)
        self.owners = [self._take_over(p.number) for p in world.partitions]
        self._start_executor()
        for executor in self.executors:
            executor.paused = False
        for i in range(1200):  # a firing that waited for the one before it is sent again by chance
            world.now += LEASE / 6 if i % 4 == 0 else 0.01
            world.use_keys()
            while world.command_net:
                world.deliver_command()
            if world.poisoner is not None or world.receivers is not None:
                self.owners = [owner if owner.alive else self._taken_over(owner) for owner in self.owners]
            for owner in self.owners:
                for _ in range(4):
                    owner.step(faults=False)
                    while owner.wire:
                        owner.deliver(faults=False)
                    owner.commit(faults=False)
            for executor in self.executors:
                executor.step(faults=False)
            if i % 4 == 3 and self._quiet():
                return
        raise AssertionError(f"I9: still in flight: {[(p.tables.queue, p.tables.timers) for p in world.partitions]}")

    def _taken_over(self, former: Owner) -> Owner:
        """The log has refused a record, and what was behind it is lost."""
        former.wire.clear()
        return Owner(self.world, former.p, postgres=self.postgres, max_keys=self.max_keys)

    def _quiet(self) -> bool:
        if self.world.keyed_clients is not None and self.world.keyed_clients.apis:
            return False
        if self.world.command_net or any(executor.alive and executor.tasks for executor in self.executors):
            return False
        for owner in self.owners:
            p, term = owner.p, owner.term
            if (
                p.tables.queue
                or p.tables.timers
                or p.tables.webhooks
                or p.tables.expired(self.world.now)
                or not term.ready
                or term.unacked
                or term.unprojected
            ):
                return False
            if self.world.crons_want(p):
                return False
            if owner.acks or p.next_command(term.decided) is not None:
                return False
        return True


def run(
    seed: int,
    *,
    guarded: bool = True,
    chained: bool = True,
    poisoned: bool = True,
    walled: bool = True,
    hooked: bool = True,
    owned: bool = True,
    expiring: bool = True,
    trace: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one seed and check the invariants. Raises AssertionError naming the invariant."""
    world = SimulatedWorld(
        seed,
        guarded=guarded,
        chained=chained,
        poisoned=poisoned,
        walled=walled,
        hooked=hooked,
        owned=owned,
        expiring=expiring,
    )
    world.trace = trace
    with _forgetful_aggregates():
        return _run(world)


@contextmanager
def _forgetful_aggregates() -> Iterator[None]:
    """Of keyed requests' commands they remember fewer than the product's: the rest has to be found elsewhere."""
    usual, decider.RECENT_KEYED = decider.RECENT_KEYED, RECENT_KEYED
    try:
        yield
    finally:
        decider.RECENT_KEYED = usual


def _run(world: SimulatedWorld) -> Outcome:
    scenario = Scenario(world)
    for _ in range(STEPS):
        scenario.step()
    terms = len(scenario.owners)
    pieces = sum(owner.pieces for owner in scenario.owners)
    given_up = sum(owner.pieces > 0 and not owner.alive and not owner.term.ready for owner in scenario.owners)
    scenario.quiesce()
    firings, answers = checks.check(world, {owner.p.number: owner.term for owner in scenario.owners})
    return Outcome(
        commands=sum(len(p.commands) for p in world.partitions),
        records=sum(len(p.events) for p in world.partitions),
        terms=terms,
        pieces=pieces,
        given_up=given_up,
        poison=0 if world.poisoner is None else world.poisoner.made,
        unreadable=0 if world.poisoner is None else world.poisoner.unreadable,
        posts=0 if world.receivers is None else len(world.receivers.posts),
        firings=firings,
        answers=answers,
        skips=sum(len(p.skips) for p in world.partitions),
        expired=checks.expired(world),
        too_early=checks.too_early(world),
    )
