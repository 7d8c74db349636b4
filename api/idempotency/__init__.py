"""Requests with an idempotency key: carried out once, answered alike whenever they are sent again."""
