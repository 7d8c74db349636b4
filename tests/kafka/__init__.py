"""What only the log in Apache Kafka does, and the cluster that tests and development run."""
