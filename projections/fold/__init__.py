"""What each event does to the read models, folded into one write per row."""
