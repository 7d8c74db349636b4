"""docs/reference/compatibility.md is right about the router, the request models, and what a server returns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from threadlog.api.app import ROUTES
from threadlog.api.http.openapi import plain_path
from threadlog.api.http.routes import Route
from threadlog.api.runs.bodies import RunCreate
from threadlog.deploy.settings import Settings
from threadlog.engine.user_code.langgraph_keys import KEYS, SECTIONS, VARIABLES, Treatment

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
CONTRACT = PAGE.with_name("http-api.md")
SOME_ID = "0b2e5f1c-4c0d-4f0e-9a5e-1f2d3c4b5a69"
PARTLY = {("GET", "/metrics")}
"""What is incomplete; the remarks say why."""


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below the heading."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


@dataclass(frozen=True)
class Row:
    """One endpoint of the table."""

    method: str
    path: str
    word: str
    parameters: frozenset[str]
    takes_run: bool
    remark: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def url(self) -> str:
        return re.sub(r"\{(?!namespace)\w+\}", SOME_ID, self.path)


def endpoints() -> list[Row]:
    rows = []
    for endpoint, word, honoured, remark in table("Endpoints"):
        method, path = endpoint.strip("`").split()
        rows.append(Row(method, path, word, frozenset(names(honoured)), "*run*" in honoured, remark))
    return rows


ROWS = endpoints()
RUN_FIELDS = {next(iter(names(field))): word for field, word, _ in table("Fields of a run")}
SERVED = {(route.method, plain_path(route.path)): route for route in ROUTES}


def test_every_route_is_in_the_table_and_nothing_else_is_called_honoured() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS)
    here = {(row.method, row.path) for row in ROWS if row.word in ("honoured", "partly")}
    assert here == set(SERVED)
    assert {row.word for row in ROWS} == {"honoured", "partly"}


@pytest.mark.parametrize("key", sorted(SERVED), ids=" ".join)
def test_the_parameters_of_an_endpoint_are_those_of_its_route(key: tuple[str, str]) -> None:
    route: Route = SERVED[key]
    row = next(row for row in ROWS if (row.method, row.path) == key)
    query = {parameter.name for parameter in route.query}
    assert row.takes_run == (route.body is RunCreate)
    body = None if row.takes_run else route.body
    assert row.parameters == query | (set(body.model_fields) if body else set())
    assert (row.word == "partly") == (key in PARTLY)


def test_the_fields_of_a_run_are_those_of_the_model() -> None:
    assert RUN_FIELDS.keys() == RunCreate.model_fields.keys()
    assert set(RUN_FIELDS.values()) == {"honoured"}


def test_variables_are_treated_as_the_table_says() -> None:
    words = {next(iter(names(variable))): word for variable, word, _ in table("Environment variables")}
    aliases = {
        str(name)
        for field in Settings.model_fields.values()
        for name in getattr(field.validation_alias, "choices", [field.validation_alias])
    }
    settings = {name for name in aliases if not name.startswith(("THREADLOG_", "KAFKA_", "HTTP_READ_"))}
    assert set(words) == settings | {*SECTIONS, *VARIABLES}
    assert {words[name] for name in settings} == {"honoured"}
    for name, (treatment, _) in VARIABLES.items():
        assert (words[name] == "refused") == (treatment is Treatment.REFUSED), name
        assert (words[name] == "honoured") == (treatment is Treatment.HONOURED), name
        assert (words[name] == "not needed") == (treatment is Treatment.NEEDLESS), name
    for name, key in SECTIONS.items():
        if key in KEYS and KEYS[key][0] is Treatment.HONOURED:
            assert words[name] == "honoured", name


LANGCHAINS_OWN = {"LANGSMITH_TRACING", "LANGSMITH_PROJECT"}


def test_every_variable_and_key_of_the_contract_is_treated() -> None:
    variables = {next(iter(names(cell))) for cell, _, _ in table("Environment variables")}
    for variable in _of_the_contract("### 9.3", r"\b([A-Z][A-Z0-9_]{3,})"):
        known = variables | LANGCHAINS_OWN
        assert variable in known or any(name.startswith(variable) for name in known if variable.endswith("_")), variable
    for key in _of_the_contract("### 9.2", r"([a-z$_]+)") - {"key"}:
        assert any(known.partition(".")[0] == key for known in KEYS), key


def _of_the_contract(heading: str, pattern: str) -> set[str]:
    """What the first column of a section's table names."""
    section = CONTRACT.read_text().partition(heading)[2].partition("\n#")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][1:]
    found: set[str] = set()
    for cell in cells:
        found |= {f"{stem}_CUSTOM" for stem in re.findall(r"([A-Z_]+)\(_CUSTOM\)", cell)}
        found |= set(re.findall(pattern, re.sub(r"\([^)]*\)", "", cell)))
    return found
