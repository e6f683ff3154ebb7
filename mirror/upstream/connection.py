"""Connection settings of one upstream: trusted CAs, client certificate, proxy, limits."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from mirror.upstream.proxies import Proxies
from mirror.util.pem import EncryptedKey, no_password, reason
from mirror.util.rate_limit import BandwidthLimit

CONNECTIONS = 256


class ConnectionSettingsError(Exception):
    """A file cannot be used; `key` names the setting, the message the expected content."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """The connection settings of one upstream.

    `trusted` is used for every host; `shown` adds the client certificate, for the upstream's own
    origin only.
    """

    trusted: ssl.SSLContext | None = None
    shown: ssl.SSLContext | None = None
    proxies: Proxies = field(default_factory=Proxies)
    max_connections: int = CONNECTIONS
    bandwidth_limit: BandwidthLimit = field(default_factory=BandwidthLimit)

    @property
    def few(self) -> int:
        """Connections for small requests: large bodies never take the last one."""
        return max(1, self.max_connections // 4)

    def as_anonymous(self) -> Self:
        """Return the same settings without the client certificate."""
        return replace(self, shown=None)


def trust(
    ca_file: Path | None, client_cert: Path | None = None, client_key: Path | None = None
) -> ssl.SSLContext | None:
    """Make a TLS context that trusts a bundle as well as the system's CAs; None without settings.

    Raises ConnectionSettingsError.
    """
    if ca_file is None and client_cert is None:
        return None
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConnectionSettingsError("ca_file", reason(error, "certificates in PEM")) from None
    if client_cert is not None:
        try:
            context.load_cert_chain(client_cert, client_key, password=no_password)
        except (OSError, ssl.SSLError, EncryptedKey) as error:
            wanted = "a certificate and its key, both in PEM, without a password,"
            raise ConnectionSettingsError("client_cert", reason(error, wanted)) from None
    return context
