"""In-process caches that creating a run needs, invalidated by events."""
