"""What an executor tells the log about its graphs: `graph.register`, and each graph's default assistant."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from langgraph.store.base import BaseStore

from threadlog.engine.clock import utc_now
from threadlog.engine.domain.commands import Command, CreateAssistant, RegisterGraph
from threadlog.engine.executor.graphs.describe import broken_graph, describe_graph, digest_of
from threadlog.engine.executor.graphs.loader import Graphs, LoadedGraph, graph_name
from threadlog.engine.executor.reporting.appender import BatchingAppender
from threadlog.engine.ids import default_assistant_id
from threadlog.engine.log.records import EXECUTOR, CommandEnvelope, partition_of

logger = logging.getLogger(__name__)


def announce_assistants(graphs: Graphs, appender: BatchingAppender, partitions: int) -> None:
    """Ask for the default assistant of every graph; one that exists stays as it is, a deleted one returns.

    The command id is new with each start: a repeated one would be dropped, and the deleted assistant stay away.
    """
    for graph in graphs.by_id.values():
        assistant_id = default_assistant_id(graph.graph_id)
        command = CreateAssistant(
            assistant_id=assistant_id,
            graph_id=graph.graph_id,
            name=graph_name(graph.compiled, graph.graph_id),
            description=graph.spec.description,
            metadata={"created_by": "system"},
            if_exists="do_nothing",
        )
        _post(appender, partitions, command, key=assistant_id, id=f"assistant:{assistant_id}:{uuid.uuid4().hex}")


async def announce_graphs(graphs: Graphs, appender: BatchingAppender, partitions: int, store: BaseStore) -> None:
    """Describe and register every graph. Meant for the background: drawing and schemas take a while.

    The command id holds what is registered, so every further start or executor with the same code repeats it.
    """
    for graph in graphs.by_id.values():
        info = await described(graph, store)
        digest = digest_of(info)
        command = RegisterGraph(graph_id=graph.graph_id, digest=digest, info=info)
        key = f"graph:{graph.graph_id}"
        # Two kinds of code may take turns under one name, so the hour makes an old digest a new command.
        _post(appender, partitions, command, key=key, id=f"{key}:{digest}:{utc_now()[:13]}")
        await asyncio.sleep(0)


async def described(graph: LoadedGraph, store: BaseStore | None = None) -> dict[str, Any]:
    """The `info` of `RegisterGraph`, with its `error` if the graph does not load or its factory fails, which is given
    `store`."""
    if graph.error:
        return broken_graph(graph.error, graph.spec.description)
    try:
        async with graph.open({}, access="assistants.read", store=store) as opened:
            return await asyncio.to_thread(describe_graph, opened, graph.spec.description)
    except Exception as error:
        logger.warning("graph %s cannot be described: %s: %s", graph.graph_id, type(error).__name__, error)
        return broken_graph(f"{type(error).__name__}: {error}", graph.spec.description)


def _post(appender: BatchingAppender, partitions: int, command: Command, *, key: str, id: str) -> None:
    envelope = CommandEnvelope.of(command, id=id, key=key, at=utc_now(), actor=EXECUTOR)
    appender.command(partition_of(key, partitions), key, envelope.encode())
