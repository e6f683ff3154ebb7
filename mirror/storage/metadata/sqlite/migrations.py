"""The schema of the index, and its migrations by number."""

from __future__ import annotations

import logging
import re
from importlib import resources
from pathlib import Path

import aiosqlite

from mirror.storage.errors import StoreError

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
    if 0 < version < len(known):
        _log.info("migrating %s from schema %d to %d", path, version, len(known))
    for number, script in enumerate(known[version:], version + 1):
        await connection.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")


def scripts() -> list[str]:
    """Return the statements of each schema, in the order of their numbers."""
    folder = resources.files(__package__) / "schema"
    files = [file for file in folder.iterdir() if re.fullmatch(r"\d{4}\.sql", file.name)]
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]
