"""The story of a run, told from its events for people."""
