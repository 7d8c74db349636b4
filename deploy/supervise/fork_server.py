"""Fork server: one process that has imported what others need, and becomes them by forking.

A process forked from it shares the memory of these imports with its siblings and works after milliseconds, where a new
interpreter imports for a second. `multiprocessing.forkserver` does the same, but brings a resource tracker along
(10 MB), hides the children's output, and is the parent of what it forks, so no other process learns their exit codes.
Here the supervisor asks through a socket and becomes the parent: the server forks twice, and Linux gives an orphan to
its nearest ancestor that adopts (`deploy.parent.adopt_orphans`). So children do not die with the fork server, nor
outlive the supervisor.

The first fork server is itself forked from the supervisor (`fork_here`), before that has an event loop; its successors
are new interpreters.

Kept out of this process, because children would share it: threads, event loops, connections, the user's code.

The protocol, on a stream socket: a request is the length of its JSON (4 bytes) with two or three file descriptors,
then the JSON `{name, arguments, env}`; the answer is the child's pid (4 bytes), 0 if there is none. The descriptors are
where the child writes its output, a pipe from which it waits for one byte (it begins when its parent knows it, or not
at all), and the pipe for its signs of life, if its parent wants them (`deploy.supervise.pulse`).
`deploy.supervise.fork_client` is the other side.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import FileIO, TextIOWrapper
from types import ModuleType
from typing import BinaryIO, NoReturn, TextIO, cast

from setproctitle import setproctitle

from threadlog.deploy.parent import PARENT_PID
from threadlog.deploy.supervise.leftovers import end_session
from threadlog.deploy.supervise.pulse import PULSE

_ORPHAN_SECONDS = 2.0  # a killed process closes its sockets some time before its children have another parent
NUMBER = struct.Struct("!I")

_API_OR_ENGINE = (
    "uvloop",
    "threadlog.deploy.failures",
    "threadlog.deploy.logs",
    "threadlog.deploy.settings",
    "threadlog.deploy.compose.storage",
    "aiohttp.web",
    "threadlog.engine.gateway.gateway",
    "threadlog.engine.processor.processor",
    "threadlog.engine.gateway.event_tail",
)
_IN_KAFKA = ("threadlog.engine.log.kafka.log", "threadlog.deploy.compose.api_engine")

# What children of a role import before they know who they are.
_IMPORTS = {
    "api-and-engine": (
        *_API_OR_ENGINE,
        "threadlog.engine.link.server",
        "threadlog.projections.commit.single_transaction",
    ),
    "api": (*_API_OR_ENGINE, *_IN_KAFKA),
    "engine": (*_API_OR_ENGINE, *_IN_KAFKA),
    "executor": (
        "uvloop",
        "threadlog.deploy.failures",
        "threadlog.deploy.logs",
        "threadlog.deploy.settings",
        "threadlog.deploy.compose.executor",
        "langgraph.graph",
        "langgraph.pregel",
        "langchain_core.messages",
        "langchain_core.tools",
        "langchain_core.language_models.chat_models",
    ),
}
ROLES = tuple(_IMPORTS)


@dataclass(frozen=True, slots=True)
class ForkedHere:
    """A fork server that this process has just forked: the socket to ask it, and where its output can be read."""

    pid: int
    control: socket.socket
    output: int


def fork_here(roles: Sequence[str]) -> ForkedHere | list[str] | None:
    """Fork a fork server from this process, which must have neither threads nor an event loop.

    Returns in this process what is needed to use it, None where it can't be done; in what the fork server forks the
    arguments of the command that is to be run there, as `serve` does.
    """
    if sys.platform != "linux":
        return None
    ours, theirs = socket.socketpair()
    output_of, output_to = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    gc.freeze()  # a collector writes to whatever it looks at, and what is written to is no longer shared
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        os.close(output_of)
        os.close(output_to)
        return None
    if pid:
        theirs.close()
        os.close(output_to)
        return ForkedHere(pid, ours, output_of)
    ours.close()
    os.close(output_of)
    os.environ[PARENT_PID] = str(parent)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.setsid()
    _write_to(output_to)
    if not sys.flags.safe_path:
        del sys.path[:1]  # as -P does for the other processes: neither a script's folder nor the current one
    return serve(theirs.detach(), roles)


@dataclass(frozen=True, slots=True)
class _Request:
    name: str
    arguments: list[str]
    env: dict[str, str]
    output: int
    begin: int
    pulse: int | None


def serve(control: int, roles: Sequence[str]) -> list[str]:
    """Fork on request, until the supervisor closes its end of the socket `control`.

    Returns in the children, and only there: the arguments of the command they are to run. Between requests,
    what `roles` need is imported, in this order.
    """
    setproctitle("threadlog fork-server")
    gc.disable()  # nothing here is garbage, and a collection would only make pages differ between the children
    ahead = list(roles)
    with socket.socket(fileno=control) as supervisor:
        while True:
            while ahead and not select.select([supervisor], [], [], 0)[0]:
                import_for(ahead.pop(0))
            request = _receive(supervisor)
            if request is None:
                _end()
            import_for(request.arguments[0])
            gc.freeze()  # the children's collectors do not touch what is here
            child = _fork_twice(request)
            if child is None:
                break
            os.close(request.output)
            os.close(request.begin)
            if request.pulse is not None:
                os.close(request.pulse)
            try:
                supervisor.sendall(NUMBER.pack(child))
            except OSError:
                _end()  # it has lost its patience; the child will not begin
    _become(request)
    return request.arguments


def import_for(role: str) -> None:
    """Import what the children of this role will need, as far as it is there."""
    with _left_out(
        "httpx._main"
    ):  # its command line, which brings `rich` and `pygments` where they are installed: 5 MB
        for name in _IMPORTS.get(role, ()):
            with suppress(Exception):  # it fails again in the child, which says so
                import_module(name)


@contextmanager
def _left_out(optional: str) -> Iterator[None]:
    """Modules imported here do without this one, as if it were not installed; later imports of it find it."""
    if optional in sys.modules:
        yield
        return
    sys.modules[optional] = cast(ModuleType, None)
    try:
        yield
    finally:
        del sys.modules[optional]


def _receive(supervisor: socket.socket) -> _Request | None:
    """The next request; None when the supervisor has gone."""
    head, descriptors, _, _ = socket.recv_fds(supervisor, NUMBER.size, 3)
    if not head:
        return None
    length = NUMBER.unpack(head + _exactly(supervisor, NUMBER.size - len(head)))[0]
    wanted = json.loads(_exactly(supervisor, length))
    output, begin, *pulse = descriptors
    return _Request(wanted["name"], wanted["arguments"], wanted["env"], output, begin, pulse[0] if pulse else None)


def _exactly(supervisor: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = supervisor.recv(length - len(parts))
        if not part:
            _end()
        parts += part
    return bytes(parts)


def _fork_twice(request: _Request) -> int | None:
    """The pid of a grandchild, an orphan by now; 0 if there was no room for it. In the grandchild itself: None."""
    report_of, report_to = os.pipe()
    try:
        between = os.fork()
    except OSError:
        os.close(report_of)
        os.close(report_to)
        return 0
    if between == 0:
        with suppress(OSError):
            child = os.fork()
            if child == 0:
                os.close(report_of)
                os.close(report_to)
                return None
            os.write(report_to, NUMBER.pack(child))
        os._exit(0)
    os.close(report_to)
    report = os.read(report_of, NUMBER.size)
    os.close(report_of)
    os.waitpid(between, 0)
    return NUMBER.unpack(report)[0] if report else 0


def _become(request: _Request) -> None:
    """Make this process what a new interpreter with that name, environment and output would be."""
    if not os.read(request.begin, 1):
        os._exit(0)  # the supervisor does not want it any more
    os.close(request.begin)
    # Executors share the fork server's session, each with a group of its own: where Linux schedules sessions as groups
    # (sched(7), "The autogroup feature"), all of them together have the share of one, the server has its own.
    if request.arguments[0] == "executor":
        os.setpgid(0, 0)
    else:
        os.setsid()
    _write_to(request.output)
    os.environ.clear()
    os.environ.update(request.env)
    if request.pulse is not None:
        os.environ[PULSE] = str(request.pulse)
    sys.argv[1:] = request.arguments
    setproctitle(f"threadlog {request.name}")
    gc.enable()


def _end() -> NoReturn:
    """The supervisor wants no more. If that is because it is gone, what executors have started must not outlive it."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while os.getppid() == int(os.environ[PARENT_PID]) and time.monotonic() < deadline:
        time.sleep(0.01)
    if os.getppid() != int(os.environ[PARENT_PID]):
        end_session()
    os._exit(0)  # taking the interpreter apart would copy the memory that is shared with the children


def _write_to(output: int) -> None:
    """Write to `output`, unbuffered; standard input is nothing, as the parent's."""
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    sys.stdout = _unbuffered(1, sys.stdout)
    sys.stderr = _unbuffered(2, sys.stderr)


def _unbuffered(descriptor: int, before: TextIO) -> TextIO:
    """A stream as a new interpreter makes it under PYTHONUNBUFFERED."""
    raw = FileIO(descriptor, "w", closefd=False)
    # The interface asks for a buffer, the interpreter itself does without here.
    return TextIOWrapper(cast(BinaryIO, raw), before.encoding, before.errors, write_through=True)
