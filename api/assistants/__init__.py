"""Assistants: CRUD, versions, and what executors registered about their graphs."""
