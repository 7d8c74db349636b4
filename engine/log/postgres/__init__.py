"""The log port on Postgres tables."""
