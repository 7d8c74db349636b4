"""What leaves the executor: stream frames and `run.report` commands, batched into appends."""
