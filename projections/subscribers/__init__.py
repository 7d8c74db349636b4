"""Stream processors on the log: Faust agents that read accepted events, from Kafka or from the log in Postgres."""
