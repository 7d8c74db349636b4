"""Replay seeds, telling what happened: `python -m tests.simulation SEED…`."""

import sys

from tests.simulation.scenario import run

if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(f"--- seed {seed}")
        print(run(seed, trace=print))
