"""Benchmarks: what a server of this API does on this machine, beside plain LangGraph in the same minutes."""
