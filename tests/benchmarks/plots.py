"""The charts of docs/performance.md, from the JSON of a benchmark.

python -m tests.benchmarks --rounds 3 --json docs/performance/figures.json
python -m tests.benchmarks.plots docs/performance/figures.json docs/performance/figures.svg
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import BUDGETS

_WIDTH_INCHES, _PANEL_INCHES = 11.0, 1.9
_COLUMNS = 3
_TITLES = {
    ("wait_one", "p50_ms"): "one run, one client: median ms",
    ("wait_16", "runs_per_s"): "16 clients: runs per second",
    ("wait_64", "runs_per_s"): "64 clients: runs per second",
    ("wait_16", "cpu_ms"): "server CPU per run: ms",
    ("burst", "accepted_per_s"): "background runs accepted per second",
    ("first_event", "p50_ms"): "first streamed event: median ms",
    ("custom_16", "events_per_s"): "custom events per second, 16 streams",
    ("chat_16", "events_per_s"): "chat tokens per second, 16 streams",
    ("idle", "memory_mb"): "memory when idle: MB",
}


def draw(figures: dict[str, dict[str, dict[str, float]]], target: Path) -> None:
    """One panel per figure of `_TITLES` that anybody has: a bar per server, a line where the budget is."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "threadlog", "svg.fonttype": "none"}
    from matplotlib import pyplot

    budgets = {(workload, name): (bound, more) for workload, name, bound, more in BUDGETS}
    panels = [
        (key, title, {label: f[key[0]][key[1]] for label, f in figures.items() if key[1] in f.get(key[0], {})})
        for key, title in _TITLES.items()
    ]
    panels = [panel for panel in panels if panel[2]]
    rows = math.ceil(len(panels) / _COLUMNS)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(_WIDTH_INCHES, _PANEL_INCHES * rows), squeeze=False)
    flat: list[Any] = list(axes.flat)
    for axis, (key, title, values) in zip(flat, panels, strict=False):
        colours = ["#1f6f8b" if label.startswith("threadlog") else "#b8b8b8" for label in values]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, labels=[f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in values.values()])
        bound, more = budgets[key]
        axis.axvline(bound, color="#c0392b", linewidth=1, linestyle=":" if more else "--")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.invert_yaxis()
        axis.margins(x=0.25)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plots", description=__doc__.split("\n")[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("target", type=Path, help="an .svg file")
    options = parser.parse_args()
    draw(json.loads(options.figures.read_text())["figures"], options.target)


if __name__ == "__main__":
    main()
