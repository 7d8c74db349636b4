"""Webhooks: the POST of a run's end to the URL its client gave, by the owner of the run's partition."""
