"""Torture: a real daemon among seeded faults; each round ends with a check of its promises."""
