"""The schema of the index, and its migrations by number."""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from importlib import resources
from pathlib import Path

import aiosqlite

from mirror.storage.errors import StoreError
from mirror.storage.metadata.sqlite.columns import bytes_of_text

_log = logging.getLogger(__name__)


async def migrate(connection: aiosqlite.Connection, path: Path) -> None:
    """Bring a database up to date; raises StoreError if a newer version has written it."""
    [[version]] = await connection.execute_fetchall("PRAGMA user_version")
    known = scripts()
    if version > len(known):
        raise StoreError(
            f"{path} was written by a newer version (schema {version}, this one reads up to "
            f"{len(known)}): upgrade, or move the file away to have it rebuilt"
        )
    if version == len(known):
        return
    began = time.monotonic()
    if version:
        _log.info("migrating %s from schema %d to %d", path, version, len(known))
    await connection.create_function("digest_bytes", 1, bytes_of_text, deterministic=True)
    for number, script in enumerate(known[version:], version + 1):
        await connection.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")
    await _shrink(connection, vacuum=version > 0)
    if version:
        _log.info("migrated %s in %.1f s", path, time.monotonic() - began)


async def _shrink(connection: aiosqlite.Connection, *, vacuum: bool) -> None:
    """Give the pages of former tables and of the log back: both count towards the bound."""
    try:
        if vacuum:
            await connection.execute_fetchall("VACUUM")
        await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:  # such as a full disk: the pages are of use later
        _log.warning("the index cannot be made smaller: %s", error)


def scripts() -> list[str]:
    """Return the statements of each schema, in the order of their numbers."""
    folder = resources.files(__package__) / "schema"
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", file.name)]
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]
