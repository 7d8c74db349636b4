"""Forms in which checkpoints and their values are stored, shared by executor, projections and api."""
