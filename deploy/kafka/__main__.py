"""`python -m threadlog.deploy.kafka`: starts Apache Kafka on loopback, prints its address, runs until interrupted."""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from pathlib import Path

import click

from threadlog.deploy.kafka.cluster import KafkaCluster
from threadlog.deploy.kafka.jars import KafkaUnavailable, java, version

# Of a node that many tests share, and none ends: as Kafka has it, a third of what it does while nobody wants anything.
_UNDISTURBED = {"broker.heartbeat.interval.ms": 2_000, "broker.session.timeout.ms": 9_000}


@click.command()
@click.option("--nodes", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Nodes of the cluster.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the data here (default: a temporary folder).")
@click.option("--while-locked", type=click.Path(path_type=Path), hidden=True, help="End when no process locks it.")
def main(nodes: str, data_dir: Path | None, while_locked: Path | None) -> None:
    """Apache Kafka for tests and development, on loopback."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        java()
        cluster = KafkaCluster(int(nodes), data_dir, settings=_UNDISTURBED if while_locked else None)
        cluster.start(say=lambda line: click.echo(line, err=True))
    except KafkaUnavailable as why:
        click.echo(f"error: {why}", err=True)
        sys.exit(1)
    try:
        click.echo(f"Apache Kafka {version()} runs; stop it with Ctrl-C", err=True)
        click.echo(f"KAFKA_BOOTSTRAP_SERVERS={cluster.bootstrap}")
        sys.stdout.flush()
        while not stopping.wait(1.0):
            if len(cluster.pids) < cluster.nodes:
                click.echo(f"error: a node ended by itself, see {cluster.log_file().parent}", err=True)
                sys.exit(1)
            if while_locked is not None and not _locked(while_locked):
                return
    finally:
        cluster.stop()


def _locked(path: Path) -> bool:
    """Whether some process holds a lock on the file; the kernel takes the locks of dead ones away."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


if __name__ == "__main__":
    main()
