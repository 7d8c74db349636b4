"""Gateway that encrypts the content of commands on their way to the engine, which has no keys."""

from __future__ import annotations

from dataclasses import replace

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import AnswerRequest, Command, CreateRun
from threadlog.engine.domain.events import CommandRejected
from threadlog.engine.domain.wire import event_to_wire
from threadlog.engine.encryption.content import has_content, reserved, sealed
from threadlog.engine.encryption.fields import FieldSealer
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.encryption_context import CONTEXT
from threadlog.engine.processor.ports import Decided, Gateway


class SealingGateway:
    """`engine.processor.ports.Gateway`: the first command with content makes its thread's key."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway, self._keyring = gateway, keyring
        self._fields = FieldSealer(keyring)

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """As the port says.

        Raises:
            HandlerFailed: a handler of the application's failed.
            and what reading keys from the database raises.
        """
        if isinstance(command, AnswerRequest) and self._shows_other_content(command):
            command = replace(command, body=None, complete=False)
        if isinstance(command, CreateRun) and command.cron_id is not None and self._keyring.handlers is not None:
            CONTEXT.set(await self._keyring.context_of(command.cron_id) or {})
        if (reason := reserved(command)) is not None:
            rejected = CommandRejected(code="invalid", detail=f"{command.type}: {reason}")
            return Decided(-1, -1, [event_to_wire(rejected)], utc_now())
        command = await self._fields.sealed(command)
        if (owner := has_content(command)) is not None:
            command = await self._sealed(command, owner)
        return await self._gateway.submit(command, id=id, actor=actor)

    def _shows_other_content(self, answer: AnswerRequest) -> bool:
        """Whether the answer may have content, or encrypted fields, that no one thread's key encrypts."""
        return answer.other_content or (answer.thread_id is None and not self._fields.idle)

    async def _sealed(self, command: Command, owner: str) -> Command:
        if not isinstance(command, AnswerRequest):
            return sealed(command, await self._keyring.ensure(owner))
        # Its thread may be gone, and a key that was made now would never be destroyed.
        key = (await self._keyring.of_threads([owner])).get(owner)
        return replace(command, body=None, complete=False) if key is None else sealed(command, key)
