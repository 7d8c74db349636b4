"""A real Apache Kafka for tests and development: `KafkaCluster`, and `python -m deploy.kafka` to have one running."""

from deploy.kafka.cluster import KafkaCluster
from deploy.kafka.jars import KafkaUnavailable, available

__all__ = ["KafkaCluster", "KafkaUnavailable", "available"]
