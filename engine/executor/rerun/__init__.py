"""Past runs executed again: today's code on the recorded checkpoints, in a sandbox, step by step."""
