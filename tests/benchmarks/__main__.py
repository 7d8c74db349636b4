"""`make bench`: every workload on every server found, in turn, round by round; a table, and JSON for the docs.

    python -m tests.benchmarks --rounds 3 --json docs/performance/figures.json
    python -m tests.benchmarks --only wait_one,wait_16 --rounds 1

Servers take turns within a round, so that a slow minute of a shared machine hits all of them; each is started afresh
with empty data. Medians over the rounds are printed. Peers are measured where their commands are named (see
`servers.kinds`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.client import Client
from tests.benchmarks.servers import Kind, broker, kinds, running
from tests.benchmarks.workloads import WORKLOADS, Figures, median, warm

PLAIN = "plain LangGraph"

# DESIGN's budgets on the embedded default: workload, figure, bound, and whether more is better.
BUDGETS = [
    ("idle", "cold_start_s", 3.0, False),
    ("idle", "memory_mb", 250.0, False),
    ("idle", "cpu_percent", 1.0, False),
    ("wait_one", "p50_ms", 6.0, False),
    ("wait_one", "p99_ms", 20.0, False),
    ("wait_16", "runs_per_s", 350.0, True),
    ("wait_16", "cpu_ms", 5.0, False),
    ("wait_64", "runs_per_s", 350.0, True),
    ("burst", "accepted_per_s", 1500.0, True),
    ("burst", "done_s", 3.0, False),
    ("first_event", "p50_ms", 5.0, False),
    ("custom_one", "events_per_s", 45_000.0, True),
    ("custom_16", "events_per_s", 50_000.0, True),
    ("chat_16", "events_per_s", 8_000.0, True),
    ("chat_16", "first_p50_ms", 25.0, False),
    ("sleepers", "done_s", 8.0, False),
    ("sleepers", "ok_p99_ms", 50.0, False),
    ("sleepers", "more_memory_mb", 300.0, False),
    ("fanout", "complete", 100.0, True),
]


async def _measure(kind: Kind, names: list[str], log: Path) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    with running(kind, log) as server:
        async with Client(server.url) as client:
            if "idle" in names:
                figures["idle"] = await WORKLOADS["idle"](server, client)
            await warm(client)
            for name in names:
                if name == "idle":
                    continue
                try:
                    figures[name] = await WORKLOADS[name](server, client)
                except Exception as error:
                    print(f"{kind.label}, {name}: {type(error).__name__}: {error}", file=sys.stderr)
                    continue
                shown = "  ".join(f"{k}={v:.1f}" for k, v in figures[name].items())
                print(f"  {kind.label:24} {name:12} {shown}", flush=True)
    return figures


def _floor() -> dict[str, Figures]:
    out = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("floor.py"))], capture_output=True, text=True, check=True
    ).stdout
    figures: dict[str, Figures] = json.loads(out)
    return figures


def _table(results: dict[str, dict[str, Figures]]) -> str:
    labels = list(results)
    lines = ["| workload | budget | " + " | ".join(labels) + " |", "|---" * (len(labels) + 2) + "|"]
    for workload, figure, bound, more in BUDGETS:
        cells = []
        for label in labels:
            value = results[label].get(workload, {}).get(figure)
            cells.append("" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}")
        if any(cells):
            sign = "≥" if more else "≤"
            lines.append(f"| {workload} {figure} | {sign} {bound:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, comma-separated")
    parser.add_argument("--kafka", action="store_true", help="also on Apache Kafka, one broker on this machine")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [n for n in names if n not in WORKLOADS]:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    rounds: dict[str, list[dict[str, Figures]]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bootstrap = stack.enter_context(broker(folder, wanted=options.kafka))
        log = Path(tempfile.gettempdir()) / "threadlog-bench-servers.log"
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            rounds[PLAIN].append(_floor())
            for kind in kinds(kafka=bootstrap):
                rounds[kind.label].append(asyncio.run(_measure(kind, names, log)))
    results = {
        label: {
            name: median([one[name] for one in done if name in one])
            for name in dict.fromkeys(n for one in done for n in one)
        }
        for label, done in rounds.items()
    }
    print("\n" + _table(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {"processors": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(
            json.dumps({"rounds": options.rounds, "machine": machine, "figures": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
