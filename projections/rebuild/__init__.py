"""Rebuild of the read models from the log, and verification by comparing."""
