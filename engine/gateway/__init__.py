"""Sends commands and returns their events once these are projected."""
