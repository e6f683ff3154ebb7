"""The use of a tag: when clients requested it, and whether it is kept fresh ahead of its end."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LEFT_FOR = 600.0  # seconds for which a tag is not followed after a useless HEAD


@dataclass(slots=True)
class TagUse:
    """The requests of clients for one tag. Times are those of the monotonic clock.

    `last` is the last request, `since` the first one without a long pause after it. Requests up to
    `unaided_until` would not have waited for upstream in any case: a client of that time has asked.
    `followed` tells that the tag is revalidated ahead of its end. It is not followed before
    `not_before`, because a HEAD about it did not help.
    """

    since: float = math.inf
    last: float = -math.inf
    unaided_until: float = -math.inf
    not_before: float = -math.inf
    followed: bool = False

    def leave(self, now: float) -> None:
        """Have the tag left to its clients for a while: a HEAD about it does not help."""
        self.not_before = now + _LEFT_FOR
