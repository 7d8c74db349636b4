"""What earlier versions wrote opens with today's: data folders with their log, and the log in Apache Kafka."""
