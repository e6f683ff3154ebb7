"""The files that make a client use the mirror, for the address at which a browser reaches it."""

from __future__ import annotations

from mirror.client_config.clients import files
from mirror.client_config.endpoint import ClientEndpoint, Files
from mirror.settings import ConfigurationError, Settings


class ClientFiles:
    """Writes the files of a client by the settings in force."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return f"<ClientFiles for {len(self._settings.upstreams)} upstreams>"

    def change(self, settings: Settings) -> None:
        """Replace the settings, after a reload."""
        self._settings = settings

    def url(self, scheme: str, host: str) -> str:
        """Return the registry's address for a browser that has reached the page at a host.

        With `admin_listen`, the page is not at the registry's port.
        """
        if self._settings.admin_listen is None:
            return f"{scheme}://{host}"
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return f"{scheme}://{name}:{self._settings.listen.port}"

    def of(self, client: str, url: str) -> tuple[Files, str]:
        """Return a client's files, or no file and the reason why there is none."""
        try:
            return files(client, ClientEndpoint(url), self._settings), ""
        except ConfigurationError as error:
            return {}, str(error)
