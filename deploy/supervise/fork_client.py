"""The supervisor's side of `deploy.supervise.fork_server`: asks for processes, and is their parent afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psutil

from threadlog.deploy.parent import adopt_orphans
from threadlog.deploy.supervise.fork_server import NUMBER, ForkedHere

_PATIENCE_SECONDS = 30.0  # the fork server may still be importing, on a busy machine


class ForkedProcess:
    """A child that was forked for us, with what `asyncio.subprocess.Process` offers of it."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError when it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Its exit code, -N if signal N killed it."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def collect(self) -> bool:
        """Whether it has ended; its exit code is known from then on."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # other code has collected its exit code
                self.returncode = 255
            else:
                if pid == 0:
                    return False
                self.returncode = os.waitstatus_to_exitcode(status)
            self._ended.set()
        return True


class ForkClient:
    """Asks the present fork server, if there is one, and collects what it forked.

    Args:
        own: pids of the children that others wait for.
    """

    def __init__(self, own: Callable[[], set[int]]) -> None:
        self._own = own
        self._server: socket.socket | None = None
        self._one_at_a_time = asyncio.Lock()
        self._forked: dict[int, ForkedProcess] = {}
        self._unknown = 0

    def possible(self) -> bool:
        """Whether this machine can do it; if so, this process adopts orphans from now on."""
        if not adopt_orphans():
            return False
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._collect)
        return True

    def control(self) -> socket.socket:
        """The socket for a new fork server to inherit; what is asked of it waits there. The caller closes it."""
        self.close()
        self._server, theirs = socket.socketpair()
        self._server.setblocking(False)
        return theirs

    async def use(self, first: ForkedHere) -> ForkedProcess:
        """Ask this one from now on."""
        self.close()
        self._server = first.control
        self._server.setblocking(False)
        with self.expecting():
            process = self._forked[first.pid] = ForkedProcess(first.pid, await _reader(first.output))
        return process

    def close(self) -> None:
        """Have no fork server any more: it ends."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def connected(self) -> bool:
        """Whether there is a fork server to ask, as far as is known."""
        return self._server is not None

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Within it a child may exist that this client has not heard of yet: it is not collected as an adopted one."""
        self._unknown += 1
        try:
            yield
        finally:
            self._unknown -= 1
            asyncio.get_running_loop().call_soon(self._collect)

    async def fork(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], pulse: int | None = None
    ) -> ForkedProcess | None:
        """A process `threadlog <arguments>`, a leader of its own session; None if no fork server answered.

        `pulse`: where it writes signs of life.
        """
        async with self._one_at_a_time:
            if self._server is None:
                return None
            output_of, output_to = os.pipe()
            begin_of, begin_to = os.pipe()
            try:
                with self.expecting():
                    reader = await _reader(output_of)
                    pid = await self._ask(
                        name, arguments, env, [output_to, begin_of, *([] if pulse is None else [pulse])]
                    )
                    if not pid:
                        return None
                    process = self._forked[pid] = ForkedProcess(pid, reader)
                os.write(begin_to, b"!")
                return process
            finally:
                for descriptor in (output_to, begin_of, begin_to):
                    os.close(descriptor)

    async def _ask(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], descriptors: Sequence[int]
    ) -> int | None:
        server, loop = self._server, asyncio.get_running_loop()
        assert server is not None
        body = json.dumps({"name": name, "arguments": list(arguments), "env": dict(env)}).encode()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                # Nothing else is on its way, so there is room for four bytes.
                socket.send_fds(server, [NUMBER.pack(len(body))], descriptors)
                await loop.sock_sendall(server, body)
                answer = b""
                while len(answer) < NUMBER.size:
                    part = await loop.sock_recv(server, NUMBER.size - len(answer))
                    if not part:
                        raise ConnectionResetError
                    answer += part
                return int(NUMBER.unpack(answer)[0])
        except (OSError, TimeoutError):
            self.close()
            return None
        except BaseException:
            self.close()  # the answer would be taken for that to the next request
            raise

    def _collect(self) -> None:
        """After SIGCHLD: the exit codes of those that have ended, known or adopted."""
        for process in list(self._forked.values()):
            if process.collect():
                del self._forked[process.pid]
        if self._unknown:
            return  # a child may have just been born
        own = self._own()
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.pid not in own and child.pid not in self._forked and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
    return reader
