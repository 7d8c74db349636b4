"""Apache Kafka for tests and development: `KafkaCluster`, and `python -m threadlog.deploy.kafka` to run one."""

from threadlog.deploy.kafka.cluster import KafkaCluster
from threadlog.deploy.kafka.jars import KafkaUnavailable, available

__all__ = ["KafkaCluster", "KafkaUnavailable", "available"]
