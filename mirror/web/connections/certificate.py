"""The TLS certificate of the mirror, renewed without a restart, and the names in clients' ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mirror.util.certificate_end import certificate_end
from mirror.util.file_watch import FileWatch
from mirror.util.pem import EncryptedKey, no_password, reason

_log = logging.getLogger(__name__)

_PROTOCOLS = ["http/1.1"]
_NAMES = ("commonName", "DNS", "email")  # fields that may name a client, in the terms of `ssl`


class TlsError(Exception):
    """A file cannot be used; `key` names its setting, the message says why."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Pem:
    """The files for TLS: a chain and its key, and the CA of clients' certificates."""

    tls_cert: Path
    tls_key: Path
    client_ca: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        files = (self.tls_cert, self.tls_key, self.client_ca)
        return (file for file in files if file is not None)

    def content(self) -> tuple[bytes, ...]:
        """Return hashes of the files' content."""
        return tuple(map(_print, self))


class Certificate:
    """A server's `context`, replaced when its files change; raises TlsError.

    Read `context` again for each connection: open connections keep the old one. A context in use is
    never altered: its certificate and its key would change one after the other, and OpenSSL may
    crash in a handshake between. `every` is the interval of checks for changes, in seconds. The
    certificate ends at `end`, in epoch seconds, if that is known.
    """

    def __init__(self, files: Pem, every: float = 5.0) -> None:
        self._files = files
        self._every = every
        self._watch = FileWatch(*files)
        self._turn = asyncio.Lock()
        self._shown = files.content()
        self.context = _context(files)
        self.end = _end(files)

    def change(self, anew: Certificate) -> bool:
        """Take over a newly read certificate, of any files; returns whether it differs."""
        differs = anew._shown != self._shown
        self._files, self._watch = anew._files, anew._watch
        self._shown, self.context, self.end = anew._shown, anew.context, anew.end
        if differs:
            _log.warning("the certificate is that of %s now", self._files.tls_cert)
        return differs

    def __repr__(self) -> str:
        return f"<Certificate of {self._files.tls_cert}>"

    async def run(self) -> None:
        """Check for changes; runs until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.renew()

    async def renew(self) -> None:
        """Read the files again if they have changed.

        Files that cannot be used are logged once, and the certificate stays.
        """
        async with self._turn:  # an older result must not replace a newer one
            watch = self._watch
            if await watch.changed() and watch is self._watch:
                await self._take_up(self._files, watch)

    async def _take_up(self, files: Pem, watch: FileWatch) -> None:
        try:
            shown = await asyncio.to_thread(files.content)
            context = await asyncio.to_thread(_context, files)
            end = await asyncio.to_thread(_end, files)
        except TlsError as error:
            _log.error("the certificate was not renewed: %s %s", error.key, error)
            return
        if watch is self._watch:  # not replaced by a reload meanwhile
            self._shown, self.context, self.end = shown, context, end
            _log.warning("the certificate is that of %s now", files.tls_cert)


def _print(file: Path) -> bytes:
    try:
        return sha256(file.read_bytes()).digest()
    except OSError:  # reported when the file is used
        return b""


def _end(files: Pem) -> float | None:
    try:
        return certificate_end(files.tls_cert)
    except OSError:  # reported when the file is used
        return None


def _context(files: Pem) -> ssl.SSLContext:
    """Make a context with current defaults: TLS 1.2 and later, no compression, HTTP/1.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    _load(context, files)
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise TlsError("client_ca", reason(error, "certificates in PEM")) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, files: Pem) -> None:
    try:
        files.tls_key.open("rb").close()
    except OSError as error:
        raise TlsError("tls_key", reason(error, "")) from None
    try:
        context.load_cert_chain(files.tls_cert, files.tls_key, password=no_password)
    except EncryptedKey:
        raise TlsError("tls_key", "is encrypted: it must be a key without a password") from None
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise TlsError("tls_key", "is not the key of the certificate in tls_cert") from None
        wanted = "is not a certificate with its chain in PEM, or tls_key is not its key in PEM"
        raise TlsError("tls_cert", wanted) from None
    except OSError as error:
        raise TlsError("tls_cert", reason(error, "")) from None


def peer(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the name in a client's verified certificate, empty if none; None without certificate.

    This is the common name; else the first DNS name, or else the first e-mail address, of the
    subjectAltName.
    """
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    subject = (pair for names in certificate.get("subject", ()) for pair in names)
    pairs = [*subject, *certificate.get("subjectAltName", ())]
    named = (value for kind in _NAMES for field, value in pairs if field == kind)
    return next(named, "")
