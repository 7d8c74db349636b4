"""The pure part: commands, events, one decider per aggregate, the wire form, limits."""
