"""The aggregate of a request with an idempotency key: which request the key belongs to, whether it is answered. Pure.

What the request does is decided elsewhere, by commands whose ids are derived from the key: they are recognised by the
aggregates they are for (`engine.domain.decider.fold`), and by the read model `keyed_commands`.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from threadlog.engine.domain.commands import AnswerRequest, BeginRequest, Command
from threadlog.engine.domain.events import CommandRejected, CommandRepeated, Event, RequestAnswered, RequestBegun

PREFIX = "request:"
"""Before the request's id in the aggregate's key."""


KEYED = "key:"
"""Begins the id of a command that a request with an idempotency key has sent."""


class KeyedRequest(NamedTuple):
    """`fingerprint` None: the key was never used."""

    request_id: str
    fingerprint: str | None = None
    begun_at: str = ""
    expires_at: str = ""
    answered: bool = False
    recent: tuple[str, ...] = ()


def initial(key: str) -> KeyedRequest:
    return KeyedRequest(request_id=key.removeprefix(PREFIX))


def decide(s: KeyedRequest, command: Command, *, cmd_id: str, at: str) -> list[Event]:
    """The events of one command; none where another sender of the same request was first."""
    alive = s.fingerprint is not None and datetime.fromisoformat(at) < datetime.fromisoformat(s.expires_at)
    if alive and cmd_id in s.recent:
        return [CommandRepeated()]
    match command:
        case BeginRequest():
            if not alive and datetime.fromisoformat(at) >= datetime.fromisoformat(command.expires_at):
                return []  # it comes after its own time: sent again, of a use that is over
            if not alive:
                return [
                    RequestBegun(
                        request_id=s.request_id,
                        fingerprint=command.fingerprint,
                        begun_at=command.begun_at,
                        expires_at=command.expires_at,
                    )
                ]
            if command.fingerprint != s.fingerprint:
                return [CommandRejected(code="invalid", detail="The idempotency key belongs to another request")]
            return []
        case AnswerRequest():
            of_another = (command.fingerprint, command.begun_at) != (s.fingerprint, s.begun_at)
            if not alive or s.answered or of_another:
                return []
            return [
                RequestAnswered(
                    request_id=s.request_id,
                    status=command.status,
                    headers=command.headers,
                    body=command.body,
                    complete=command.complete,
                )
            ]
    raise KeyError(command.type)


def evolve(s: KeyedRequest, event: Event, at: str) -> KeyedRequest:
    match event:
        case RequestBegun():
            # Nothing of an earlier use is left: its row may be gone by now, or not yet.
            return KeyedRequest(s.request_id, event.fingerprint, event.begun_at, event.expires_at)
        case RequestAnswered():
            return s._replace(answered=True)
    return s


def dump(s: KeyedRequest) -> dict[str, Any]:
    """A small JSON object."""
    return {
        "fingerprint": s.fingerprint,
        "begun_at": s.begun_at,
        "expires_at": s.expires_at,
        **({"answered": True} if s.answered else {}),
        "recent": list(s.recent),
    }


def load(key: str, stored: dict[str, Any]) -> KeyedRequest:
    return KeyedRequest(
        request_id=key.removeprefix(PREFIX),
        fingerprint=stored["fingerprint"],
        begun_at=stored["begun_at"],
        expires_at=stored["expires_at"],
        answered=stored.get("answered", False),
        recent=tuple(stored["recent"]),
    )


def keyed_command_id(request_id: str, expires_at: int, what: str) -> str:
    """The id of a command that a request with an idempotency key sends. `what`: which of its commands; `expires_at`:
    seconds since 1970, until when the command has to be recognised if it is sent again."""
    return f"{KEYED}{expires_at}:{request_id}:{blake2b(what.encode(), digest_size=8).hexdigest()}"


def keyed_expiry(command_id: str) -> int | None:
    """`expires_at` of a `keyed_command_id`; None for what is none."""
    expires_at = command_id.removeprefix(KEYED).partition(":")[0]
    return int(expires_at) if expires_at.isascii() and expires_at.isdigit() and len(expires_at) < 12 else None
