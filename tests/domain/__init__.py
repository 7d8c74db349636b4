"""The pure part: deciders, wire form, acceptance rule, term."""
