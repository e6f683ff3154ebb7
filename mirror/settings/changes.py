"""The keys that differ after a reload, in words for the log and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def change_lines(changed: Sequence[str], restart: Sequence[str]) -> Iterator[str]:
    """Yield a line for the keys in force, and one for the keys that need a restart."""
    if changed:
        yield f"changed: {', '.join(changed)}"
    if restart:
        yield f"needs a restart, and is not in force: {', '.join(restart)}"
    if not changed and not restart:
        yield "nothing has changed"
