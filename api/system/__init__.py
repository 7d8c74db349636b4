"""/, /ok, /info and /metrics."""
