"""A longer chaos run by hand: `python -m tests.chaos --minutes 3 --mode embedded --seed 7`; the same checks."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.chaos.chaos_run import Broken, ChaosRun, chaos_run
from tests.chaos.faults import ALL_FAULTS
from threadlog.deploy.kafka import KafkaCluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long to break things (default 3)")
    parser.add_argument("--mode", choices=sorted(ALL_FAULTS), default="embedded")
    parser.add_argument("--seed", type=int, default=None, help="order of faults and mixture of runs (default: random)")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    print(f"mode {given.mode}, seed {seed}, {given.minutes:g} minutes", flush=True)
    with ExitStack() as open_:
        broker = open_.enter_context(KafkaCluster()) if given.mode == "kafka" else None
        return asyncio.run(_soak(given.mode, seed, given.minutes, broker))


async def _soak(mode: str, seed: int, minutes: float, broker: KafkaCluster | None) -> int:
    try:
        async with chaos_run(mode, seed, broker) as one:
            await one.run(_faults(mode, seed, minutes), say=lambda line: print(line, flush=True))
            account = await one.settle()
    except Broken as error:
        print(error)
        return 1
    print(summary(one, account_runs=len(account.runs)))
    return 0


def _faults(mode: str, seed: int, minutes: float) -> Iterator[str]:
    """Faults at random until the time is up."""
    chance, end = random.Random(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        yield chance.choice(sorted(ALL_FAULTS[mode]))


def summary(one: ChaosRun, account_runs: int) -> str:
    load = one.load
    return (
        f"{account_runs} runs, {len(load.accepted)} accepted, {len(load.streams)} streamed, {len(load.answers)} waited "
        f"for, requests without an answer: {dict(load.outages)}; everything holds"
    )


if __name__ == "__main__":
    sys.exit(main())
