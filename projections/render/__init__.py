"""Stored values and states as JSON, without importing the application's types."""
