"""Commands of the `threadlog` command line that are more than starting a process."""
