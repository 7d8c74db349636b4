"""How long a test server takes to start and to stop: `python -m tests.benchmarks.testing_kit [TIMES]`.

CPU time is that of this process, without Postgres': unlike the time of the clock it does not depend on what else runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from langgraph.graph import START, MessagesState, StateGraph


@contextmanager
def measured(what: str) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what:<8} {time.perf_counter() - began:6.2f} s  {time.process_time() - cpu:6.2f} s of CPU time")


def main(times: int) -> None:
    graph = StateGraph(MessagesState).add_node("node", lambda state: {}).add_edge(START, "node").compile()
    with measured("import"):
        from threadlog.testing import serve
    for _ in range(times):
        server = serve(graphs={"agent": graph})
        with measured("start"):
            server.__enter__()
        with measured("stop"):
            server.__exit__(None, None, None)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
