"""SQLite's errors, as those of the seam."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mirror.storage.metadata.protocol import MetadataDamaged, MetadataError, RowRefused

_UNFIT = (UnicodeEncodeError, OverflowError, sqlite3.IntegrityError, sqlite3.DataError)
# By the name of the result code (sqlite.org/rescode.html); a short read means a cut file.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
_NOT_TEXT = "Could not decode to UTF-8"  # Python's message, without a code: every text is UTF-8
_DISK = ("SQLITE_IOERR", "SQLITE_CANTOPEN")


class DiskFailed(MetadataError):
    """The file could not be read or written; not because of a full disk."""


class TableMissing(MetadataError):
    """A table is missing: a database that was sound when opened is damaged now."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise SQLite's errors as MetadataError, and those of a closed connection, too."""
    try:
        yield
    except _UNFIT as error:
        raise RowRefused(str(error)) from error
    except sqlite3.Error as error:
        raise _kind(error)(str(error)) from error
    except UnicodeDecodeError as error:  # of SQLite's message, which repeats a damaged schema
        raise MetadataDamaged(str(error)) from error
    except ValueError as error:  # the connection is closed
        raise MetadataError(str(error)) from error


def _kind(error: sqlite3.Error) -> type[MetadataError]:
    """Return the kind of an error: damage is only what SQLite says of the file.

    A file that is busy or full, or a connection that is closed, is not damaged.
    """
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(_DAMAGE) or str(error).startswith(_NOT_TEXT):
        return MetadataDamaged
    if code.startswith(_DISK):
        return DiskFailed
    return TableMissing if str(error).startswith("no such table") else MetadataError
