"""Differential: a mirror's clients must get all that a plain client gets from an odd upstream."""
