"""Differential: what a plain client gets from an odd upstream, a mirror's clients must get, too."""
