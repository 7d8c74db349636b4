"""Durable runs for LangGraph applications, from a log."""
