"""The URL at which clients reach the mirror, as far as the mirror can know it."""

from __future__ import annotations

import socket

from mirror.settings import Address, ConfigurationError, Settings


def url_of(settings: Settings, address: Address) -> str:
    """Return the URL at which clients reach this address; raises ConfigurationError."""
    if not address.port:
        raise ConfigurationError(f"listen is '{address}': the port is not known yet; set --url")
    if address.host in ("0.0.0.0", "::", ""):  # noqa: S104 - recognised, not bound
        address = address._replace(host=socket.gethostname())
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{address}"
