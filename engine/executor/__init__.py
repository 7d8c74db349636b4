"""The executor: claims runs from the queue and executes their graphs."""
