"""Work on large JSON in a process of its own, so that the loops of api and engine go on turning."""
