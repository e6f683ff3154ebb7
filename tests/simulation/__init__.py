"""Simulation: weeks of a CI fleet in seconds, through the mirror's own decisions."""
