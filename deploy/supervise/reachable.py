"""What is reachable: a port to listen on, a service that is needed, the server once it is ready."""

from __future__ import annotations

import asyncio
import json
import socket

import psutil

from threadlog.deploy.failures import CannotRun


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port(host: str) -> int:
    """A port of this address that is free at the moment."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Raises `CannotRun` if no server can listen there."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotRun(
                f"port {port} on {host} cannot be used ({error.strerror}): stop the program that has it, or choose "
                "another with --port"
            ) from None


def listens(pid: int, port: int) -> bool:
    """Whether this process listens at the port. One that may not be looked into is taken to do so."""
    try:
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in psutil.Process(pid).net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


async def is_listening(address: str, seconds: float) -> bool:
    """Whether a server accepts connections at `host:port` within so many seconds."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                    writer.close()
                    return True
                except OSError:
                    await asyncio.sleep(0.2)
    except (TimeoutError, ValueError):
        return False


async def get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a small GET; (0, b"") without a response."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        reader, writer = await asyncio.open_connection(target, port)
    except OSError:
        return 0, b""
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {target}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(65_536), 5)
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0, b""
    finally:
        writer.close()


def what_is_missing(status: int, body: bytes) -> str:
    """What a server that answers `/ok` so still waits for."""
    if status == 0:
        return "waiting for the api"
    try:
        return str(json.loads(body).get("detail") or "waiting for the graphs to load")
    except (ValueError, AttributeError):
        return "waiting for the graphs to load"
