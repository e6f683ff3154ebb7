"""PEM: a certificate and its key for a context, and what is wrong with files that are neither."""

from __future__ import annotations

import ssl

from mirror.rights import unreadable


class EncryptedKey(Exception):
    """OpenSSL asks for a password: it would do so on the terminal."""


def no_password() -> str:
    """Refuse to be asked; raises EncryptedKey."""
    raise EncryptedKey


def reason(error: Exception, wanted: str) -> str:
    """Say why a file cannot be used: it cannot be read, or something else is wanted of it."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"cannot be read: {unreadable(error)}"
    return f"{wanted} are wanted"
