"""Fires crons: what is due becomes a command, what has fired becomes a run."""
