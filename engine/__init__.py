"""Decides and executes: the log, the deciders, the processor that owns partitions, the executor that runs graphs."""
