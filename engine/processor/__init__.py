"""Owns partitions: decides commands, commits the events, arms timers, notifies listeners."""
