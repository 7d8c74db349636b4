"""Dashboard and alerts of deploy/monitoring: the server has every metric and label in them, Prometheus takes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.write_dashboard import DASHBOARD, MONITORING, text
from threadlog.engine.metrics import DEFINED

RULES = MONITORING / "prometheus"
DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"
PREFIX = "lg_api_"
OF_PROMETHEUS = frozenset({"job", "instance", "le"})
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
# Made by the api itself, beside `engine.metrics.DEFINED`: its gauges are asked for in tests/contract/test_metrics.py.
OF_REQUESTS = {
    "http_requests_total": {"method", "path", "status"},
    **{f"http_requests_latency{suffix}": {"method", "path"} for suffix in _SUFFIXES["histogram"]},
}
_METRIC = re.compile(rf"{PREFIX}(\w+)(?:\{{([^}}]*)\}})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


def defined() -> dict[str, set[str]]:
    """Every metric with labels, by name as Prometheus has it, without the prefix."""
    known = dict(OF_REQUESTS)
    for name, definition in DEFINED.items():
        for suffix in _SUFFIXES[definition.kind]:
            known[name + suffix] = set() if definition.label is None else {definition.label}
    return known


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def gauges_of_the_api() -> set[str]:
    """What is asked for that is not defined in `engine.metrics`: the gauges that the api makes at a scrape."""
    return {name for _, query in queries() for name, _ in _METRIC.findall(query)} - defined().keys()


def test_every_metric_has_the_labels_by_which_it_is_asked_for() -> None:
    known = defined()
    asked = list(queries())
    for where, query in asked:
        metrics = _METRIC.findall(query)
        own: set[str] = set(OF_PROMETHEUS)
        for name, matchers in metrics:
            labels = known.get(name, set())
            own |= labels
            for label in _LABEL.findall(matchers or ""):
                assert label in labels | OF_PROMETHEUS, f"{where}: {name} has no label {label}"
        for group in _BY.findall(query):
            assert set(re.findall(r"\w+", group)) <= own, f"{where}: by ({group})"
    assert len(asked) > 60


def test_all_that_the_server_counts_is_shown() -> None:
    shown = {name for _, query in queries() for name, _ in _METRIC.findall(query)}
    families = {name: {name + suffix for suffix in _SUFFIXES[of.kind]} for name, of in DEFINED.items()}
    missing = {name for name, names in families.items() if not names & shown}
    assert missing == {"run_queue_wait_time_retry_attempt"}


def test_the_dashboard_is_as_it_is_written() -> None:
    assert DASHBOARD.read_text() == text(), "python -m tests.deploy.write_dashboard"
    panels = json.loads(text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24 and len({panel["id"] for panel in panels}) == len(panels)


def test_the_docs_say_what_to_do_about_each_alert() -> None:
    page = DOCS.read_text()
    named = re.findall(r"^\| `(Threadlog\w+)` \|", page, re.MULTILINE)
    assert named == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true", reason="needs promtool (Debian: prometheus)"
)
@pytest.mark.server
def test_prometheus_takes_the_rules_and_they_rise_where_they_should(arguments: tuple[str, ...]) -> None:
    assert shutil.which("promtool"), "under CI=true promtool must be there (Debian: prometheus)"
    told = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


def test_an_alert_test_has_every_rule() -> None:
    """It counts the alerts that rise; a rule that is new has to be among them."""
    tests = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    [counted] = tests[1]["promql_expr_test"]
    assert counted["exp_samples"] == [{"value": len(rules())}]
