"""Attacks: one test for each way in."""
