"""/openapi.json: every route has models, from which its description is made."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ValidationError

from tests.described import Description, references
from threadlog.api.app import ROUTES
from threadlog.api.custom_app.mount import CustomApp, merged_openapi
from threadlog.api.events.commands import is_command
from threadlog.api.events.models import CommandRequest
from threadlog.api.http import openapi
from threadlog.api.http.headers import ENCRYPTION_CONTEXT, IDEMPOTENCY_KEY, SENT, TAKEN
from threadlog.api.http.openapi import describe, plain_path
from threadlog.api.http.routes import Route
from threadlog.api.idempotency import door
from threadlog.api.protocols.a2a.card import HISTORY_SCOPE
from threadlog.engine import encryption_context

DOCUMENT = describe(ROUTES, "1")
WITHOUT_BODY = {
    ("POST", "/threads/{thread_id}/copy"),
    ("POST", "/threads/{thread_id}/runs/{run_id}/cancel"),
    ("POST", "/runs/{run_id}/cancel"),
}
"""Requests that change something and whose body is not read."""


def name(route: Route) -> str:
    return f"{route.method} {plain_path(route.path)}"


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_a_route_has_a_model_of_what_it_takes_and_returns(route: Route) -> None:
    empty = route.status in (202, 204, 307)
    assert route.returns is not None or route.stream or route.text or empty, "of what it returns"
    if route.method in ("POST", "PUT", "PATCH"):
        assert (route.body is None) == ((route.method, plain_path(route.path)) in WITHOUT_BODY), "of what it takes"
    operation = DOCUMENT["paths"][plain_path(route.path)][route.method.lower()]
    assert ("requestBody" in operation) == (route.body is not None)
    assert {"503", str(route.status)} <= operation["responses"].keys()
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        assert content or int(status) < 300 or status in ("304", "307"), f"{status} has a body"
        assert all(media["schema"] != {} for media in content.values()), f"{status} has a schema"


OPERATIONS = [(f"{route.method} {plain_path(route.path)}", route) for route in ROUTES]


@pytest.mark.parametrize(("label", "route"), OPERATIONS, ids=[label for label, _ in OPERATIONS])
def test_an_operation_is_described_and_shown(label: str, route: Route) -> None:
    method, _, path = label.partition(" ")
    operation = DOCUMENT["paths"][path][method.lower()]
    assert operation["description"].endswith(".") and "contract" not in operation["description"]
    assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    assert all(f"`{access}`" in operation["description"] for access in route.access or ())
    if route.body is not None:
        (media,) = operation["requestBody"]["content"].values()
        example = media["example"]
        for body in example if route.list_body else [example]:
            assert set(body) <= set(route.body.model_fields), "fields that the route would pass over"
            route.body.model_validate(body)
        whole = {**media["schema"], "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(whole).validate(example)


def test_the_description_is_openapi_and_its_defaults_fit_their_schemas() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_what_is_open_to_everybody_needs_no_credentials() -> None:
    security = {"securitySchemes": {"Token": {"type": "http", "scheme": "bearer"}}, "security": [{"Token": []}]}
    described = describe(ROUTES, "1", security)
    OpenAPIV31SpecValidator(described).validate()
    for label, route in OPERATIONS:
        method, _, path = label.partition(" ")
        operation = described["paths"][path][method.lower()]
        assert ("security" in operation) == (route.access == ()) == ("401" not in operation["responses"])
    app = FastAPI()
    app.add_api_route("/hello", lambda: "hello")
    for guarded, expected in ((False, []), (True, None)):
        merged = merged_openapi(describe(ROUTES, "1", security), CustomApp(asgi=app), guarded=guarded)
        OpenAPIV31SpecValidator(merged).validate()
        assert merged["paths"]["/hello"]["get"].get("security") == expected


def test_the_paths_are_below_the_mount_prefix() -> None:
    assert describe(ROUTES, "1", prefix="/agents")["servers"] == [{"url": "/agents"}]


def test_a_name_in_place_of_a_model_is_refused() -> None:
    with pytest.raises(TypeError, match="has to be a type"):
        describe([Route("GET", "/x", ROUTES[0].handler, "X", returns="Thread")], "1")


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    used = {reference.removeprefix("#/components/") for reference in references(DOCUMENT)}
    assert used == {f"schemas/{name}" for name in schemas} | {f"headers/{name}" for name in SENT}


def test_the_encryption_context_is_a_parameter_where_the_application_encrypts() -> None:
    described = describe(ROUTES, "1", encryption=True)
    OpenAPIV31SpecValidator(described).validate()
    for label, route in OPERATIONS:
        method, _, path = label.partition(" ")
        parameters = described["paths"][path][method.lower()].get("parameters", ())
        assert (ENCRYPTION_CONTEXT in {each["name"] for each in parameters}) == (route.access != ()), label


OF_ANY_REQUEST = {"Accept", "Authorization", "Content-Encoding", "Origin", "Upgrade", "traceparent", "tracestate"} | {
    "X-Forwarded-Proto", "X-Forwarded-Host"
}  # fmt: skip
"""No parameters of an operation: HTTP's own, of browsers, proxies and traces."""
NAMED = {"HISTORY_SCOPE": HISTORY_SCOPE, "HEADER": ENCRYPTION_CONTEXT, "_ID": "X-Request-Id"}
ELSEWHERE = {"encryption_context.py", "middleware.py"}  # for all requests


def test_handlers_declare_the_headers_that_they_read() -> None:
    """What a module reads with `header(request, …)`, its routes take."""
    taken: dict[Path, set[str]] = {}
    for route in ROUTES:
        if route.takes:
            taken.setdefault(Path(inspect.getfile(route.handler)).resolve(), set()).update(route.takes)
    read: dict[Path, set[str]] = {}
    for file in Path(openapi.__file__).resolve().parents[1].rglob("*.py"):
        found = re.findall(r'\bheader\(request, ("[^"]+"|\w+)\)', file.read_text())
        names = {name.strip('"') if name.startswith('"') else NAMED[name] for name in found} - OF_ANY_REQUEST
        if names and file.name not in ELSEWHERE:
            read[file] = names
    assert read == taken
    assert set().union(*taken.values()) | {IDEMPOTENCY_KEY, ENCRYPTION_CONTEXT} == set(TAKEN)
    assert (IDEMPOTENCY_KEY, ENCRYPTION_CONTEXT) == (door.HEADER, encryption_context.HEADER)


def test_a_command_is_what_its_model_takes() -> None:
    """It is read by hand: the error has the protocol's form."""
    commands: list[Any] = [
        {"id": 1, "method": "run.start"}, {"id": 1, "method": "run.start", "params": {"a": 1}},
        {"id": True, "method": "x"}, {"id": "1", "method": "x"}, {"id": 1, "method": 2}, {"id": 1}, {"method": "x"},
        [], None, "x",
    ]  # fmt: skip
    for command in commands:
        try:
            CommandRequest.model_validate(command)
        except ValidationError:
            assert not is_command(command), command
        else:
            assert is_command(command), command


@pytest.mark.parametrize(
    ("status", "content_type", "body", "problem"),
    [
        (200, "application/json", b"7", None),
        (200, "application/json", b'"7"', "not of type 'integer'"),
        (200, "text/plain", b"7", "text/plain, which is not described"),
        (418, "application/json", b"7", "418 is not described"),
        (422, "application/json", b'{"detail": "x", "code": "conflict"}', None),
        (422, "application/json", b'{"detail": "x", "code": "conflict", "more": 1}', "'more' was unexpected"),
        (422, "application/json", b'{"code": "conflict"}', "'detail' is a required property"),
        (422, "application/json", b'{"detail": "x", "code": "novel"}', "'novel' is not one of"),
    ],
)
def test_a_response_that_is_not_as_described_is_noticed(
    status: int, content_type: str, body: bytes, problem: str | None
) -> None:
    problems = Description(DOCUMENT).problems("POST", "/threads/count", status, content_type, body)
    assert (not problems) if problem is None else (len(problems) == 1 and problem in problems[0])
