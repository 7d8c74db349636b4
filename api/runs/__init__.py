"""Runs: create, stream, wait, join, cancel; stateless runs and the stream of a thread."""
