"""zstd with dictionaries, for log records and stored values."""
