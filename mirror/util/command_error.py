"""The error that ends a command: its message is for the user, on one line."""

from __future__ import annotations


class CommandError(Exception):
    """A command has failed; the message says why, on one line."""
