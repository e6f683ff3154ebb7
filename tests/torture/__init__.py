"""Torture: a real daemon among seeded faults, all that it promises checked after each round."""
