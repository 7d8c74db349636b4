"""Agents of any framework: a plain async function, served as a graph. Applications import `stream_text` from here."""

from threadlog.engine.agents.speech import stream_text

__all__ = ["stream_text"]
