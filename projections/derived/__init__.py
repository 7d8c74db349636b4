"""Derived streams: what is counted from the events for people, not for the api; usage and run metrics."""
