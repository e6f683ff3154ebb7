"""Helpers that tests of several rooms share, one trade in each module."""
