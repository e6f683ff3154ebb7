"""Fuzz: hostile peers on both sides of a real daemon, beside an honest client."""
