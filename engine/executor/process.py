"""The executor process: one executor, its signals, and a loop that outlives what user code does to it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from threadlog.engine.executor.graphs.application import load_application
from threadlog.engine.executor.graphs.loader import Graphs
from threadlog.engine.executor.node_threads import NODE_THREADS
from threadlog.engine.executor.options import ExecutorOptions
from threadlog.engine.executor.worker import Executor
from threadlog.engine.log.port import Log

__all__ = ["ExecutorOptions", "run", "run_executor"]

logger = logging.getLogger(__name__)

_THREADS_SECONDS = 0.5  # idle threads end at once, user code may never


async def run_executor(options: ExecutorOptions, log: Log, graphs: Graphs) -> None:
    """Serve until SIGTERM or SIGINT. A second one hands runs back without waiting for a superstep.

    Run it with `run`, which loads the graphs and keeps a `SystemExit` of user code from ending the process.
    """
    executor = Executor(options, log, graphs)
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(number, lambda: draining.append(loop.create_task(executor.drain())))
    await executor.start()
    logger.info("executor %s is ready: %s", executor.executor_id, _usable(executor.graphs))
    try:
        await executor.serve()
    finally:
        await executor.aclose()


def _usable(graphs: Graphs) -> str:
    """`one, two (broken: three)`."""
    broken = sorted(graph.graph_id for graph in graphs.broken)
    usable = ", ".join(sorted(graphs.by_id.keys() - broken)) or "no graph"
    return f"{usable} (broken: {', '.join(broken)})" if broken else usable


def run(config_path: Path, main: Callable[[Graphs], Coroutine[Any, Any, None]]) -> None:
    """Load the application's graphs, then run an executor's main coroutine with them to its end.

    A node that raises `SystemExit` or `KeyboardInterrupt` stops asyncio's loop: the loop goes on here, and the run
    fails with that error. Threads that user code left behind do not keep the process.

    Raises:
        engine.user_code.langgraph_json.ConfigError: the configuration cannot be used.
    """
    graphs, loop = load_application(config_path)
    sys.setswitchinterval(0.002)  # nodes that compute in threads leave the loop a share
    task = loop.create_task(main(graphs))
    while True:
        try:
            loop.run_until_complete(task)
            break
        except (SystemExit, KeyboardInterrupt):
            if task.done():
                raise
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    if _node_threads_stay():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _node_threads_stay() -> bool:
    """Whether user code still runs in a thread: the interpreter would wait for it for ever."""
    deadline = time.monotonic() + _THREADS_SECONDS
    nodes = [thread for thread in threading.enumerate() if thread.name.startswith(NODE_THREADS)]
    for thread in nodes:
        thread.join(max(0.0, deadline - time.monotonic()))
    return any(thread.is_alive() for thread in nodes)
