"""The secret of the data folder: random bytes that appear in no answer, and outlive a restart."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from mirror.storage.data_folder import sync_folder
from mirror.storage.errors import StoreError
from mirror.util import permissions

_log = logging.getLogger(__name__)
_NAME = "key"
_LENGTH = 32  # bytes


def folder_key(root: Path) -> bytes:
    """Return the key; a missing or damaged one is replaced. Raises StoreError."""
    try:
        key = _read(root / _NAME)
    except FileNotFoundError:
        return _written(root)
    except OSError as error:
        raise StoreError(
            f"cannot read {root / _NAME}: {permissions.explain_refusal(error, root)}"
        ) from None
    if len(key) == _LENGTH:
        return key
    _log.warning("%s is damaged: wrote a new key; proofs of possession begin anew", root / _NAME)
    return _written(root)


def _written(root: Path) -> bytes:
    try:
        return _write(root)
    except OSError as error:
        raise StoreError(
            f"cannot write {root / _NAME}: {permissions.explain_refusal(error, root)}"
        ) from None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LENGTH + 1)


def _write(root: Path) -> bytes:
    """Write a new key to a temporary file, and rename it once complete."""
    key, new = secrets.token_bytes(_LENGTH), root / f"{_NAME}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(descriptor)
    new.rename(root / _NAME)
    sync_folder(root)  # otherwise a power cut may undo the rename, and proofs begin anew
    return key
