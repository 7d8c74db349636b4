"""The authenticated user as user code sees it: auth handlers in the api, nodes and factories in executors.

Imports nothing of LangGraph; satisfies `langgraph_sdk.auth.types.BaseUser`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class User:
    """A user's fields as attributes and as items; what is not a field is looked up in `original`, if there is one."""

    def __init__(self, fields: Mapping[str, Any], original: Any = None) -> None:
        self._fields = dict(fields)
        self._original = original

    @property
    def identity(self) -> str:
        return str(self._fields.get("identity", ""))

    @property
    def display_name(self) -> str:
        return str(self._fields.get("display_name") or self.identity)

    @property
    def is_authenticated(self) -> bool:
        return bool(self._fields.get("is_authenticated", True))

    @property
    def permissions(self) -> Sequence[str]:
        return list(self._fields.get("permissions") or ())

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_fields"][name]
        except KeyError:
            pass
        if name.startswith("__") or (original := self.__dict__.get("_original")) is None:
            raise AttributeError(name)
        return getattr(original, name)

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __repr__(self) -> str:
        return f"User({self.identity!r})"

    def model_dump(self) -> dict[str, Any]:
        return dict(self._fields)
