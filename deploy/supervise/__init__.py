"""Processes of one machine: started, watched, restarted and stopped together."""
