"""The cost of a HEAD: whether the pulls left fall with each, as if HEADs were counted. Pure."""

from __future__ import annotations

_IN_A_ROW = 4  # HEADs that each cost a pull: less often, that was a pull of another machine


class HeadCost:
    """Watches the number of pulls left that upstream names in its answers to HEADs."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._falls = 0

    def __repr__(self) -> str:
        return f"<HeadCost: {self._falls} HEADs in a row cost a pull>"

    @property
    def counted(self) -> bool:
        """Whether upstream seems to count HEADs."""
        return self._falls >= _IN_A_ROW

    def answered(self, left: int) -> None:
        """Note the pulls left after a HEAD; a HEAD that cost none clears earlier ones."""
        if self._left is not None:
            self._falls = self._falls + 1 if left == self._left - 1 else 0
        self._left = left

    def pulled(self) -> None:
        """Note a counted pull: the pulls left have fallen for its sake."""
        self._left = None
