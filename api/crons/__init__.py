"""Handlers of /runs/crons and /threads/{thread_id}/runs/crons."""
