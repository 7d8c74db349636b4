"""What /openapi.json says of a response, compared with the response."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import Draft202012Validator

JSON = "application/json"


class Description:
    """A description of an API, as a judge of its responses. Objects whose properties it names must have no others."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._definitions = {"components": _closed(document["components"])}
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + "$"), operation)
            for path, methods in sorted(document["paths"].items(), key=lambda item: item[0].count("{"))
            for method, operation in methods.items()
        ]
        self._validators: dict[tuple[str, int], Draft202012Validator] = {}
        self._headers = {name.lower() for name in document["components"]["headers"]}

    def problems(
        self, method: str, path: str, status: int, content_type: str, body: bytes | None, headers: Iterable[str] = ()
    ) -> list[str]:
        """What of a response is not described. `body`: None if it is not looked at. `headers`: those that it has; the
        ones that the description has nowhere do not count."""
        method = "GET" if method == "HEAD" else method
        operation = next((op for m, pattern, op in self._operations if m == method and pattern.match(path)), None)
        if operation is None:
            return []
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"{method} {path}: {status} is not described: {(body or b'')[:200]!r}"]
        content = response.get("content", {})
        described = {name.lower() for name in response["headers"]}
        if undescribed := ({name.lower() for name in headers} & self._headers) - described:
            return [f"{method} {path}: {status} has the headers {sorted(undescribed)}, which are not described"]
        if not body:
            return []
        if content_type not in content:
            return [f"{method} {path}: {status} has {content_type}, which is not described"]
        if content_type != JSON:
            return []
        validator = self._validator(operation["operationId"], status, content[JSON]["schema"])
        errors = validator.iter_errors(json.loads(body))
        return [f"{method} {path}: {status}: {error.json_path}: {error.message[:300]}" for error in errors]

    def _validator(self, operation: str, status: int, schema: dict[str, Any]) -> Draft202012Validator:
        key = operation, status
        if key not in self._validators:
            self._validators[key] = Draft202012Validator({**_closed(schema), **self._definitions})
        return self._validators[key]


def _closed(schema: Any) -> Any:
    """The schema, its objects without properties that it does not name."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def references(schema: Any) -> Iterator[str]:
    """The `$ref`s in it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from references(item)
