"""A2A, the Agent2Agent protocol: an assistant is an agent, a run is a task (contract 10.2)."""
