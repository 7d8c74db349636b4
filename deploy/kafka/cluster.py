"""Kafka cluster of one or three nodes on loopback: start, stop, kill and restart."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from threadlog.deploy.kafka.broker import JAVA_OPTIONS, READY_LINE, Ports, properties, render
from threadlog.deploy.kafka.jars import KafkaUnavailable, jars, java
from threadlog.deploy.parent import parent_death_signal

log = logging.getLogger("threadlog.kafka")

_START_SECONDS = 90.0
_STOP_SECONDS = 20.0


class KafkaCluster:
    """Kafka nodes as child processes; all methods block. Ports stay the same over restarts, and so does the data.

    Nodes are numbered from 1. Without a `directory` the data is temporary and gone after `stop`. On Linux the nodes end
    with the thread that started them, however that ends. `advertised`: the port of a proxy on loopback that clients of
    a single node are to go through; it has to pass them on to `port`. `settings` go before those of `broker.py`.
    """

    def __init__(
        self,
        nodes: int = 1,
        directory: Path | None = None,
        *,
        advertised: int | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        if nodes not in (1, 3):
            raise ValueError(f"a cluster has 1 or 3 nodes (a majority must remain when one is lost), not {nodes}")
        if advertised is not None and nodes != 1:
            raise ValueError("only a single node can be behind a proxy")
        self._advertised = advertised
        self._settings = settings or {}
        self._temporary = directory is None
        self._directory = directory.absolute() if directory is not None else Path(tempfile.mkdtemp(prefix="tl-kafka-"))
        self._ports = [Ports(*pair) for pair in _free_ports(nodes)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap(self) -> str:
        """The nodes' addresses, as `KAFKA_BOOTSTRAP_SERVERS` wants them."""
        return ",".join(f"127.0.0.1:{self._advertised or ports.client}" for ports in self._ports)

    @property
    def port(self) -> int:
        """Where the first node listens."""
        return self._ports[0].client

    @property
    def nodes(self) -> int:
        return len(self._ports)

    @property
    def pids(self) -> dict[int, int]:
        """Process ids of the nodes that run, by node."""
        return {node: process.pid for node, process in self._processes.items() if process.poll() is None}

    def start(self, *, say: Callable[[str], None] = log.info) -> None:
        """Start all nodes and return when all accept requests. Raises `KafkaUnavailable`."""
        folder = jars(say)
        try:
            self._format(folder)
            begins = {node: self._launch(node, folder) for node in range(1, self.nodes + 1) if node not in self.pids}
            for node, begin in begins.items():
                self._wait_ready(node, begin)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all nodes, cleanly as far as they do it in time."""
        running = {node: self._processes[node] for node in self.pids}
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for node, process in running.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("kafka node %d did not stop within %g s", node, _STOP_SECONDS)
                process.kill()
                process.wait()
        self._processes.clear()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self, node: int = 1) -> None:
        """`kill -9` a node."""
        process = self._processes.pop(node, None)
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, node: int = 1) -> None:
        """Start a node again: after `kill` as it is, otherwise after a clean stop. Returns when it accepts requests."""
        process = self._processes.pop(node, None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._wait_ready(node, self._launch(node, jars()))

    def log_file(self, node: int = 1) -> Path:
        """What the node says."""
        return self._directory / f"node-{node}.log"

    def __enter__(self) -> KafkaCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _data(self, node: int) -> Path:
        return self._directory / f"node-{node}"

    def _config(self, node: int) -> Path:
        return self._directory / f"node-{node}.properties"

    def _format(self, folder: Path) -> None:
        """Write the configurations, and an empty log directory for each node that has none."""
        self._directory.mkdir(parents=True, exist_ok=True)
        id_file = self._directory / "cluster.id"
        if not id_file.exists():
            id_file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
        formatting = []
        for node in range(1, self.nodes + 1):
            settings = properties(node, self._ports, self._data(node), advertised=self._advertised)
            self._config(node).write_text(render({**settings, **self._settings}))
            if not (self._data(node) / "meta.properties").exists():
                command = [
                    *self._java(folder), "kafka.tools.StorageTool", "format", "--ignore-formatted",
                    f"--cluster-id={id_file.read_text()}", "--config", str(self._config(node)),
                ]  # fmt: skip
                formatting.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                    )
                )
        for process in formatting:
            said, _ = process.communicate()
            if process.returncode != 0:
                raise KafkaUnavailable(f"Kafka could not format its storage:\n{said.strip()[-2000:]}")

    def _java(self, folder: Path) -> list[str]:
        return [java(), *JAVA_OPTIONS, "-cp", f"{folder}{os.sep}*"]

    def _launch(self, node: int, folder: Path) -> int:
        with self.log_file(node).open("ab") as output:
            begin = output.tell()
            on_main_thread = threading.current_thread() is threading.main_thread()
            self._processes[node] = subprocess.Popen(
                [*self._java(folder), "kafka.Kafka", str(self._config(node))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
                preexec_fn=parent_death_signal(signal.SIGKILL) if on_main_thread else None,
            )
        return begin

    def _wait_ready(self, node: int, begin: int) -> None:
        process = self._processes[node]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with self.log_file(node).open("rb") as said:
                said.seek(begin)
                text = said.read().decode(errors="replace")
            if READY_LINE in text:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka node {node} did not start:\n{text.strip()[-3000:]}")
            time.sleep(0.02)


def _free_ports(nodes: int) -> Iterator[tuple[int, int]]:
    """Free ports; all are held until all are found, so that they differ."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(2 * nodes):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
    yield from zip(found[::2], found[1::2], strict=True)
