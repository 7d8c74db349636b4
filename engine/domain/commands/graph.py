"""Commands for graphs; key: "graph:" + graph_id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from threadlog.engine.domain.commands.base import Command, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterGraph(Command):
    """An executor has loaded this graph. Decided to nothing when `info` equals what is registered.

    `info`: `{description, schemas: {input, output, state, config, context}, drawings: {"0": …, "1": …, "true": …},
    subgraphs: {ns: schemas}, out: [channels] | channel}`; its `digest` is in `digest`. The default assistant of the
    graph (uuid5) is created by the sender with `CreateAssistant(if_exists="do_nothing")`.
    """

    type: ClassVar[str] = "graph.register"
    graph_id: str
    digest: str
    info: JsonObject


GRAPH_COMMANDS: tuple[type[Command], ...] = (RegisterGraph,)
