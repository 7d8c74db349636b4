"""The application's modules, imported as a script would import them: in the main thread, before any event loop runs.

Modules that fetch what they need at import (`asyncio.run`, `loop.run_until_complete`, `nest_asyncio.apply()`) work so.
What asks for an event loop meanwhile, to keep it or to make clients that do, gets the one on which graphs will run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadlog.engine.executor.graphs.loader import Graphs, load_graphs
from threadlog.engine.user_code.langgraph_json import load


def load_application(config_path: Path) -> tuple[Graphs, asyncio.AbstractEventLoop]:
    """The graphs, and a loop that is not running yet to run them on; it is the current one.

    uvloop, or asyncio's own where a module has asked for a loop: libraries that patch one (nest_asyncio) need that.

    Raises:
        engine.user_code.langgraph_json.ConfigError: the configuration cannot be used.
    """
    with _a_loop_for_whoever_asks() as policy:
        graphs = load_graphs(load(config_path))
    loop = policy.asked_for or _new_loop()
    asyncio.set_event_loop(loop)
    return graphs, loop


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Makes a loop for the main thread whenever it has none, also after `asyncio.run` has taken it away."""

    def __init__(self) -> None:
        super().__init__()
        self._current: asyncio.AbstractEventLoop | None = None

    @property
    def asked_for(self) -> asyncio.AbstractEventLoop | None:
        """The main thread's present loop, if it can still be used."""
        return None if self._current is None or self._current.is_closed() else self._current

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        if threading.current_thread() is not threading.main_thread():
            return super().get_event_loop()
        if self.asked_for is None:
            self.set_event_loop(self.new_event_loop())
        assert self._current is not None
        return self._current

    def set_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        super().set_event_loop(loop)
        if threading.current_thread() is threading.main_thread():
            self._current = loop


@contextmanager
def _a_loop_for_whoever_asks() -> Iterator[_Policy]:
    before, policy = asyncio.get_event_loop_policy(), _Policy()
    asyncio.set_event_loop_policy(policy)
    try:
        yield policy
    finally:
        if asyncio.get_event_loop_policy() is policy:  # else a module has installed its own
            asyncio.set_event_loop_policy(before)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
