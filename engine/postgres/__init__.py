"""Connections to Postgres that outlive its outages: error sets, kept connections, listeners."""
