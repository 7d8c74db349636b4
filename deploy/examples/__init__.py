"""The example application, and the conversation of `make run`."""
