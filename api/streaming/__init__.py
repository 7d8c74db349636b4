"""Streaming: the hub that delivers frames and events to requests, subscriptions, and server-sent events."""
