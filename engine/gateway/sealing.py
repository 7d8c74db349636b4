"""Gateway that encrypts the content of commands on their way to the engine, which has no keys."""

from __future__ import annotations

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import Command
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
        if (owner := has_content(command)) is not None:
            if (reason := reserved(command)) is not None:
                rejected = CommandRejected(code="invalid", detail=f"{command.type}: {reason}")
                return Decided(-1, -1, [event_to_wire(rejected)], utc_now())
            command = sealed(command, await self._keyring.ensure(owner))
        return await self._gateway.submit(command, id=id, actor=actor)
