"""The end of a certificate, read from its DER (RFC 5280, 4.1): `ssl` shows that of peers only."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_VERSION = 0xA0  # the tag of the one field that may be missing
_UTC_TIME = 0x17


def certificate_end(chain: Path) -> float | None:
    """Return when the first certificate of a file in PEM ends, in epoch seconds; None if unknown.

    Raises OSError.
    """
    text = chain.read_text("ascii", "replace")
    begin = text.find(_BEGIN)
    end = text.find(_END, begin)
    if begin < 0 or end < 0:
        return None
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)]))
    except (ValueError, IndexError, StopIteration):
        return None


def _not_after(der: bytes) -> float:
    """Return notAfter; raises ValueError, IndexError or StopIteration for other bytes."""
    [(_, certificate), *_] = _fields(der)
    signed = next(content for _, content in _fields(certificate))
    fields = [content for tag, content in _fields(signed) if tag != _VERSION]
    serial, algorithm, issuer, validity = fields[:4]
    del serial, algorithm, issuer
    _, (tag, text) = list(_fields(validity))[:2]
    return _seconds(text.decode("ascii"), short=tag == _UTC_TIME)


def _seconds(text: str, *, short: bool) -> float:
    """Read a UTCTime (a year from 1950 to 2049, without its century) or a GeneralizedTime."""
    if short:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each field (X.690, 8.1), with lengths of up to 126 bytes' form."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            width = length & 0x7F
            length = int.from_bytes(data[place : place + width], "big")
            place += width
        yield tag, data[place : place + length]
        place += length
