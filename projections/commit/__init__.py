"""Commits: projection transactions, guarded by the partition's epoch, and who waits for them."""
