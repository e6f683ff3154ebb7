"""What can go wrong with the data folder, in words for the operator."""

from __future__ import annotations


class StoreError(Exception):
    """The data folder cannot be used; the message names it and the reason."""


class NoRoomError(Exception):
    """The bound leaves no room for this content, whatever is evicted."""
