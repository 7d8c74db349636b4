"""One attempt of a run: configure and call the graph, stream what it emits, report its outcome."""
