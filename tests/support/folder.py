"""A data folder as another program sees it: its paths, and the rows of its index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mirror.storage.metadata.sqlite.columns import digest_bytes, digest_of


def read_digests(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Have a connection's SQL understand `digest_text(column)` and `digest_bytes(text)`."""
    connection.create_function("digest_text", 1, lambda column: str(digest_of(column)))
    connection.create_function("digest_bytes", 1, digest_bytes)
    return connection


class DataFolder:
    """The data folder of a mirror, whether one runs or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # Files

    def blob(self, digest: str) -> Path:
        """Return the path of a stored blob or manifest."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.path / "blobs" / algorithm / hexadecimal[:2] / hexadecimal

    def blobs(self) -> list[Path]:
        """List the files of stored blobs and manifests."""
        return [path for path in (self.path / "blobs").rglob("*") if path.is_file()]

    def partial(self, digest: str) -> Path:
        """Return the path of the partial that the next fetch of a blob resumes."""
        return self.path / "partial" / digest.replace(":", "-")

    def partials(self) -> list[Path]:
        """List all files of fetches."""
        return list((self.path / "partial").iterdir())

    def quarantined(self, digest: str) -> Path:
        """Return the path of a wrong file in quarantine."""
        return self.path / "quarantine" / digest.replace(":", "-")

    def quarantine(self) -> list[Path]:
        """List the files in quarantine."""
        return list((self.path / "quarantine").iterdir())

    # The index

    @property
    def index(self) -> Path:
        """The path of the index."""
        return self.path / "index.db"

    def index_files(self) -> list[Path]:
        """List the index and its logs."""
        return list(self.path.glob("index.db*"))

    def damaged_indexes(self) -> list[Path]:
        """List the damaged indexes that were moved aside."""
        return list(self.path.glob("index.damaged-*"))

    def lose_index(self) -> None:
        """Remove the index and its logs."""
        for path in self.index_files():
            path.unlink()

    @contextmanager
    def database(self, *, autocommit: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the index; writes take effect at the end, or at once with `autocommit`."""
        connection = read_digests(sqlite3.connect(self.index))
        connection.execute("PRAGMA foreign_keys=ON")
        if autocommit:
            connection.isolation_level = None
        with closing(connection) as database, database:
            yield database

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """Hold the index against other writers, as a backup does."""
        with self.database(autocommit=True) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            finally:
                database.execute("ROLLBACK")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows that a query finds in the index on the disk."""
        with self.database() as database:
            return database.execute(query).fetchall()

    def count(self, table: str) -> int:
        """Return how many rows a table has on the disk."""
        [[count]] = self.rows(f"SELECT count(*) FROM {table}")
        assert isinstance(count, int)
        return count
