"""Two versions of threadlog beside each other: how much a change makes each workload dearer or cheaper.

    git worktree add ../before REF && make -C ../before install
    python -m tests.benchmarks.pairs ../before [--only wait_one,chat_16] [--pairs 12] [--kafka]

Both servers run at the same time, each with data of its own, and are driven by turns, a few seconds each, the first one
changing from pair to pair: whatever else the machine does hits both. Each figure is shown as the median before and
after, and as the median of the pairs' ratios (after / before) with its 95 % interval, from 2000 resamplings of the
pairs (Efron's percentile bootstrap, 1979). The last column says which way the interval lies, or `-` where it holds 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.client import Client
from tests.benchmarks.servers import Kind, broker, kinds, running
from tests.benchmarks.workloads import WORKLOADS, Figures, warm

# What one turn takes of a workload, so that it lasts about two seconds. Idle has no turns: `make bench` measures it.
SHARES = {
    "wait_one": 0.4,
    "wait_16": 0.3,
    "wait_64": 0.3,
    "burst": 0.4,
    "first_event": 0.4,
    "custom_one": 1.5,
    "custom_16": 0.4,
    "chat_16": 0.5,
    "sleepers": 0.2,
}
RESAMPLINGS = 2000
Pair = tuple[Figures, Figures]


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median of `ratios`."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLINGS))
    return medians[round(RESAMPLINGS * 0.025)], medians[round(RESAMPLINGS * 0.975) - 1]


def row(name: str, figure: str, pairs: list[Pair]) -> str:
    """A line of the table: before, after, ratio, interval, and which way it lies."""
    before, after = (statistics.median(pair[side][figure] for pair in pairs) for side in (0, 1))
    ratios = [pair[1][figure] / pair[0][figure] for pair in pairs if pair[0][figure]]
    low, high = interval(ratios)
    way = "-" if low <= 1 <= high else "less" if high < 1 else "more"
    ratio = statistics.median(ratios)
    return f"| {name} {figure} | {before:,.1f} | {after:,.1f} | {ratio:.3f} | {low:.3f}-{high:.3f} | {way} |"


async def measure(before: Kind, after: Kind, names: list[str], count: int, log: Path) -> None:
    print("| figure | before | after | ratio | 95 % | |\n|---|---|---|---|---|---|", flush=True)
    with running(before, log) as old, running(after, log) as new:
        async with Client(old.url) as to_old, Client(new.url) as to_new:
            sides = [(old, to_old), (new, to_new)]
            for _, client in sides:
                await warm(client)
            for name in names:
                pairs: list[Pair] = []
                for number in range(count + 1):
                    turn: dict[int, Figures] = {}
                    for side in (0, 1) if number % 2 else (1, 0):
                        turn[side] = await WORKLOADS[name](*sides[side], SHARES[name])
                    if number:  # the first pair is for warming up
                        pairs.append((turn[0], turn[1]))
                for figure in pairs[0][0]:
                    print(row(name, figure, pairs), flush=True)


def at(folder: Path, kind: Kind, topics: str) -> Kind:
    """`kind` as the version in `folder` starts it."""
    command = folder / ".venv/bin/threadlog"
    if not command.exists():
        sys.exit(f"{command} is not there: run `make -C {folder} install`")
    environment = {key: value.replace("bench.", f"bench.{topics}.") for key, value in kind.environment.items()}
    return replace(kind, command=[str(command), *kind.command[1:]], environment=environment)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs", description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path, help="a checkout of the version before, installed into its .venv")
    parser.add_argument("--after", type=Path, default=Path(), help="a checkout of the version after (this one)")
    parser.add_argument("--only", default=",".join(SHARES), help="workloads, comma-separated")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--kafka", action="store_true", help="on Apache Kafka, one broker on this machine")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [n for n in names if n not in SHARES]:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(SHARES)}")
    if options.pairs < 2:
        parser.error("--pairs: two at least")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bootstrap = stack.enter_context(broker(folder, wanted=options.kafka))
        kind = kinds(kafka=bootstrap)[1 if options.kafka else 0]
        before, after = at(options.before.resolve(), kind, "before"), at(options.after.resolve(), kind, "after")
        asyncio.run(measure(before, after, names, options.pairs, folder / "servers.log"))


if __name__ == "__main__":
    main()
