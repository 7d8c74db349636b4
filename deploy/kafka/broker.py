"""Broker configuration of one node for tests and development, with the reason beside every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ports:
    """The two loopback ports of a node."""

    client: int
    controller: int


def properties(
    node: int, ports: Sequence[Ports], data: Path, *, advertised: int | None = None
) -> Mapping[str, str | int]:
    """The settings of node number `node` (from 1) of `len(ports)` nodes, each broker and controller in one process.

    `advertised`: the port that the broker advertises to clients, when it is not the node's own.
    """
    nodes = len(ports)
    mine = ports[node - 1]
    copies = min(nodes, 3)
    return {
        "process.roles": "broker,controller",  # KRaft, both in one JVM: half the memory and start-up time
        "node.id": node,
        "controller.quorum.voters": ",".join(f"{i}@127.0.0.1:{p.controller}" for i, p in enumerate(ports, 1)),
        "listeners": f"PLAINTEXT://127.0.0.1:{mine.client},CONTROLLER://127.0.0.1:{mine.controller}",  # loopback only
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised or mine.client}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        # Copies: three nodes survive the loss of one without losing an acknowledged record, nor stopping to accept.
        "default.replication.factor": copies,
        "min.insync.replicas": max(1, copies - 1),
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": max(1, copies - 1),
        "unclean.leader.election.enable": "false",  # an acknowledged record is never traded for availability
        "auto.create.topics.enable": "false",  # a mistyped topic is an error, not a topic with one partition
        # Internal topics of one partition: nothing here has enough consumer groups or transactions to need fifty.
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,  # the first member of a group need not wait three seconds for others
        # Few threads, small buffers: several JVMs share a laptop's or a CI runner's two cores.
        "num.network.threads": 2,
        "num.io.threads": 2,
        "num.replica.fetchers": 1,
        "num.recovery.threads.per.data.dir": 2,  # restart after kill -9 reads all segments not yet checkpointed
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 4_194_304,  # the default takes 128 MiB of heap at the start
        "log.index.size.max.bytes": 1_048_576,  # preallocated twice per partition; 1 MiB indexes half a GiB of records
        "socket.request.max.bytes": 16 * 1024 * 1024,
        # A dead or hung node is noticed in three seconds instead of nine: tests kill nodes and wait for what follows.
        # Not sooner, or a machine that is busy for a moment takes a living one out.
        "broker.heartbeat.interval.ms": 300,
        "broker.session.timeout.ms": 3_000,
        "metadata.max.idle.interval.ms": 0,  # no record twice a second that only says that nothing happens
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.election.backoff.max.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1_500,
        "controller.quorum.request.timeout.ms": 1_500,
        "replica.lag.time.max.ms": 3_000,  # a follower that hangs leaves the in-sync set, and appends go on without it
        "replica.fetch.wait.max.ms": 100,  # a follower's idle request ends sooner, so a stop is sooner done
        "controlled.shutdown.enable": "true" if nodes > 1 else "false",  # hand over leadership, if there is someone
    }


def render(settings: Mapping[str, str | int]) -> str:
    """The settings as a `.properties` file."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())


# Java options of a node, and why.
JAVA_OPTIONS: Sequence[str] = (
    "-Xms64m",  # grows when needed
    "-Xmx384m",  # 64 partitions of four topics and chunks of half a MiB fit well; three nodes fit in a CI runner
    "-XX:+UseSerialGC",  # two cores: no extra collector threads
    "-XX:TieredStopAtLevel=1",  # started more often than it is busy: compile fast rather than well
    "-XX:+ExitOnOutOfMemoryError",  # a half-dead broker would only make tests hang
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # says when the node is ready
)
READY_LINE = "Kafka Server started"
