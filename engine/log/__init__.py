"""The log: its port, the record formats, the acceptance rule, and one adapter per place it can be in."""
