"""LangGraph's checkpointer: puts go to the log, loads come from memory or the read models."""
