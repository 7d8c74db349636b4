"""Who sends a request: the user that the application's `authenticate` made of it, or this server itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any
from uuid import UUID

from threadlog.engine.log.encodable import encodable
from threadlog.engine.user_code.user import User

IDENTITY_CHARACTERS = 500
"""Of an identity: it stands in every command and event of the user."""

ACTOR: ContextVar[str | None] = ContextVar("actor", default=None)
"""The actor of the commands that the request being handled submits; None where nobody is authenticated."""


class InvalidUser(Exception):
    """What `authenticate` returned is not a user. The message says what one is."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`user`: what authorization handlers get as `ctx.user`; `fields`: the same as JSON, for the runs of the caller.

    `trusted`: it is this server (a client without a url in the application's code): no handler is asked.
    """

    identity: str
    user: Any
    permissions: list[str] = field(default_factory=list)
    fields: Mapping[str, Any] | None = None
    trusted: bool = False

    @property
    def actor(self) -> str:
        return "server" if self.trusted else f"user:{self.identity}"

    def configurable(self) -> dict[str, Any]:
        """The keys of `configurable` that tell nodes of the caller (contract 3.9)."""
        return {
            "user_id": self.identity,
            "langgraph_auth_user": self.fields,
            "langgraph_auth_user_id": self.identity,
            "langgraph_auth_permissions": self.permissions,
        }


SERVER = Caller("", None, trusted=True)


def caller_of(returned: Any) -> Caller:
    """The caller that `authenticate` described: by an identity, a mapping with one, or an object with one.

    Raises:
        InvalidUser: it described none.
    """
    own: dict[str, Any]
    original = None
    if isinstance(returned, str):
        own = {"identity": returned}
    elif isinstance(returned, Mapping):
        own = dict(returned)
    elif _identity(getattr(returned, "identity", None)):
        original = returned
        own = _fields_of(returned)
    else:
        own = {}
    identity = _identity(own.get("identity"))
    if not identity:
        without = "" if "identity" not in own else f" whose identity is {type(own['identity']).__name__}"
        raise InvalidUser(
            "authenticate must return a string, or a mapping or an object with an `identity` (a string, an integer or "
            f"a UUID); it returned {type(returned).__name__}{without}"
        )
    if len(identity) > IDENTITY_CHARACTERS:
        raise InvalidUser(f"the identity of a user must have at most {IDENTITY_CHARACTERS} characters")
    permissions = own.get("permissions") or []
    if isinstance(permissions, str) or not all(isinstance(permission, str) for permission in permissions):
        raise InvalidUser("the permissions of a user must be a list of strings")
    known = {
        "identity": identity,
        "is_authenticated": bool(own.get("is_authenticated", True)),
        "display_name": own.get("display_name") or identity,
        "permissions": list(permissions),
    }
    own |= known
    fields = encodable(own)
    return Caller(fields["identity"], User(own, original), fields["permissions"], fields)


def studio(user: Any) -> Caller:
    """A `StudioUser`, as it is: handlers test for its class."""
    fields = {
        "identity": user.identity,
        "is_authenticated": user.is_authenticated,
        "display_name": user.display_name,
        "permissions": list(user.permissions),
        "kind": "StudioUser",
    }
    return Caller(user.identity, user, list(user.permissions), fields)


def _identity(value: Any) -> str:
    """As text, also that of a row's primary key; "" for what is none."""
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    return value if isinstance(value, str) else ""


def _fields_of(user: Any) -> dict[str, Any]:
    dump = getattr(user, "model_dump", None)
    if callable(dump):
        own = dict(dump())
    elif is_dataclass(user) and not isinstance(user, type):
        own = asdict(user)
    else:
        own = {name: value for name, value in getattr(user, "__dict__", {}).items() if not name.startswith("_")}
    names = ("identity", "is_authenticated", "display_name", "permissions")
    return {**own, **{name: getattr(user, name) for name in names if hasattr(user, name)}}
