"""Composition roots: which objects each process consists of, how these start and stop together."""
