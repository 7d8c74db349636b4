"""Chaos: processes are killed and restarted while runs are in flight; afterwards nothing may be lost or doubled."""
