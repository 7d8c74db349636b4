"""Threads: CRUD, search, state, history and state updates."""
