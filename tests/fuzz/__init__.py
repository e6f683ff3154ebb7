"""Fuzz: both wires of a real daemon, spoken by hostile peers, beside an honest client."""
