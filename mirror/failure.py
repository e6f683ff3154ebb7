"""The failure that ends a command: its message is for the user, in one line."""

from __future__ import annotations


class CommandFailed(Exception):
    """A command cannot do what it was asked for; the message says why, in one line."""
