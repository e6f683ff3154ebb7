"""How many examples a test of its own randomness takes: few for each change, many for a search."""

from __future__ import annotations

from hypothesis import settings


def examples(few: int, many: int) -> int:
    """Return `many` under the profile of a search (`make test-long`), `few` otherwise."""
    return many if settings.get_current_profile_name() == "search" else few
