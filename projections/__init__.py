"""Postgres read models: their tables, what each event does to them, the queries that read them."""
