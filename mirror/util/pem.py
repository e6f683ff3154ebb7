"""PEM: certificates and keys for a TLS context, and messages about unusable files."""

from __future__ import annotations

import ssl

from mirror.util.permissions import explain_unreadable


class EncryptedKey(Exception):
    """OpenSSL asks for a password, which it would do on the terminal."""


def no_password() -> str:
    """Refuse OpenSSL's question for a password; raises EncryptedKey."""
    raise EncryptedKey


def reason(error: Exception, wanted: str) -> str:
    """Return why a file cannot be used: it cannot be read, or does not hold `wanted`."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"cannot be read: {explain_unreadable(error)}"
    return f"{wanted} are expected"
