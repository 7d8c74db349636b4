"""Gateway that encrypts the content of commands on their way to the engine, which has no keys."""

from __future__ import annotations

from dataclasses import replace

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import AnswerRequest, Command
from threadlog.engine.domain.events import CommandRejected
from threadlog.engine.domain.wire import event_to_wire
from threadlog.engine.encryption.content import has_content, reserved, sealed
from threadlog.engine.encryption.keys import Keyring
from threadlog.engine.processor.ports import Decided, Gateway


class SealingGateway:
    """`engine.processor.ports.Gateway`: the first command with content makes its thread's key."""

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway, self._keyring = gateway, keyring

    async def submit(self, command: Command, *, id: str | None = None, actor: str | None = None) -> Decided:
        """As the port says. Raises what reading keys from the database raises, too."""
        if isinstance(command, AnswerRequest) and command.other_content:
            command = replace(command, body=None, complete=False)
        if (owner := has_content(command)) is not None:
            if (reason := reserved(command)) is not None:
                rejected = CommandRejected(code="invalid", detail=f"{command.type}: {reason}")
                return Decided(-1, -1, [event_to_wire(rejected)], utc_now())
            command = await self._sealed(command, owner)
        return await self._gateway.submit(command, id=id, actor=actor)

    async def _sealed(self, command: Command, owner: str) -> Command:
        if not isinstance(command, AnswerRequest):
            return sealed(command, await self._keyring.ensure(owner))
        # Its thread may be gone, and a key that was made now would never be destroyed.
        key = (await self._keyring.of_threads([owner])).get(owner)
        return replace(command, body=None, complete=False) if key is None else sealed(command, key)
