"""The soundness of an index, looked at from outside: its mirror may run meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_PATIENCE = 5.0  # seconds for a lock


def quick_fault(index: Path) -> str | None:
    """Return the first damage that SQLite's quick check finds, None if there is none.

    The file is opened for reading only: a log of a mirror that was killed is left as it is.
    """
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(index))}?mode=ro", _PATIENCE, uri=True)
        ) as database:
            [found] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"cannot be checked: {error}"
    return None if found == "ok" else str(found).splitlines()[0][:200]
