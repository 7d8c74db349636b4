"""Servers forked from a process that has imported what they need: a test's server starts without a second of imports.

`python -P tests/warm.py SOCKET` is that process, one per test process, begun when the first server is wanted and ended
with the test process. Each request is one command line of `threadlog`, with its environment. It becomes that command in
a fork, as `deploy.supervise.fork_server` does for the processes of one server. Between the two is a keeper, the parent
of the command: it reports the exit code, and ends when the process that forked it does.

Not for tests of the start itself, of processes or of what they import: `servers.start(…, fresh=True)`.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, NoReturn

# Beside what the fork server has for its children: what they import as they begin, and the applications of the tests.
_MORE = (
    "threadlog.deploy.cli",
    "threadlog.deploy.supervise.supervisor",
    "threadlog.deploy.compose.api_engine",
    "langchain.agents",
    "langgraph.prebuilt",
    "langgraph.func",
    "langgraph_sdk",
)
_PR_SET_PDEATHSIG = 1
_HEAD = 4  # bytes of a request's length


class WarmProcess:
    """A `threadlog` command that was forked for us, with what `subprocess.Popen` offers of it."""

    def __init__(self, args: Sequence[str], pid: int, stdout: IO[str] | None, code: IO[str]) -> None:
        self.args = list(args)
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._wait, args=(code,), daemon=True).start()

    def _wait(self, code: IO[str]) -> None:
        with code:
            told = code.read()
        self.returncode = int(told) if told else -signal.SIGKILL  # the keeper was killed, which kills the command
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], env: Mapping[str, str]) -> WarmProcess:
    """`threadlog <arguments>`, in the current folder, a session's leader; its output is one pipe. Only on Linux."""
    output_of, output_to = os.pipe()
    try:
        pid, told = _ask(arguments, env, output_to, output_to)
    finally:
        os.close(output_to)
    return WarmProcess(["threadlog", *arguments], pid, os.fdopen(output_of, errors="replace"), told)


def run(arguments: Sequence[str], env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """`threadlog <arguments>` from beginning to end. Only on Linux."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        pid, told = _ask(arguments, env, output.fileno(), errors.fileno())
        process = WarmProcess(["threadlog", *arguments], pid, None, told)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, output.read(), errors.read())


def _ask(arguments: Sequence[str], env: Mapping[str, str], output: int, errors: int) -> tuple[int, IO[str]]:
    """The pid of the command, and where its exit code will be told."""
    sys.audit("subprocess.Popen", sys.executable, list(arguments), os.getcwd(), env)  # what tests/tiers.py listens for
    body = json.dumps({"arguments": list(arguments), "env": dict(env), "folder": os.getcwd()}).encode()
    told_of, told_to = os.pipe()
    try:
        with _one_at_a_time:
            control = _control({name: value for name, value in env.items() if name.startswith("PYTHON")})
            socket.send_fds(control, [len(body).to_bytes(_HEAD)], [output, errors, told_to])
            control.sendall(body)
    finally:
        os.close(told_to)
    told = os.fdopen(told_of)
    pid = told.readline()
    assert pid, "the process that has imported everything is gone"
    return int(pid), told


_one_at_a_time = threading.Lock()
# By the process that asks (a fork of a test process begins its own), and by what an interpreter reads as it begins.
_controls: dict[tuple[int, frozenset[tuple[str, str]]], socket.socket] = {}


def _control(of_interpreter: Mapping[str, str]) -> socket.socket:
    key = (os.getpid(), frozenset(of_interpreter.items()))
    if key not in _controls:
        ours, theirs = socket.socketpair()
        with theirs:
            subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
                | dict(of_interpreter),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        _controls[key] = ours
    return _controls[key]


# --- the process itself


def _serve(control: socket.socket) -> list[str]:
    """Fork on request, until the tests close the socket; returns in the forks, with the arguments of their command."""
    from setproctitle import setproctitle

    setproctitle("threadlog tests")  # it looks for its place before the environment moves
    from threadlog.deploy.supervise.fork_server import ROLES, import_for

    for role in ROLES:
        import_for(role)
    for name in _MORE:
        with suppress(Exception):  # it fails again where it is needed
            import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the keepers
    me = os.getpid()
    while True:
        head, descriptors, _, _ = socket.recv_fds(control, _HEAD, 3)
        if not head:
            sys.exit(0)
        request = json.loads(control.recv(int.from_bytes(head), socket.MSG_WAITALL))
        output, errors, told = descriptors
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(told, me)
            _become(request["env"], request["folder"], output, errors)
            os.write(told, f"{os.getpid()}\n".encode())
            os.close(told)
            return list(request["arguments"])
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(told: int, parent: int) -> None:
    """Returns in a fork, which is to become the command. The keeper itself ends here, after that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    pid = os.fork()
    if pid == 0:
        return
    os.closerange(0, told)
    os.closerange(told + 1, 64)  # above all the command's output, which ends with the command
    _, status = os.waitpid(pid, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(env: Mapping[str, str], folder: str, output: int, errors: int) -> None:
    """Make this process what a new interpreter with that environment, folder and output would be."""
    os.setsid()
    os.chdir(folder)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.environ.clear()
    os.environ.update(env)
    os.environ["THREADLOG_PARENT_PID"] = str(os.getppid())  # the keeper, with which it ends
    gc.enable()


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but for taking itself apart: that would copy all the memory shared with others."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    gc.disable()  # nothing here is garbage, and a collection would write to pages that the forks share
    command = _serve(socket.socket(fileno=int(sys.argv[1])))
    from threadlog.deploy import cli

    sys.argv = [cli.__file__, *command]
    try:
        cli.main(command, prog_name="threadlog")
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        _end(end.code or 0)
