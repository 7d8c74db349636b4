"""The executor channel: a local socket between the engine and the executors of one machine."""
