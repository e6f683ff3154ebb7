"""The files of podman, CRI-O, buildah and skopeo, which all read containers-registries.conf(5)."""

from __future__ import annotations

from mirror.client_config.endpoint import (
    HEAD,
    ClientEndpoint,
    Files,
    authority,
    quoted,
    registry_url,
)
from mirror.settings import ConfigurationError, Settings


def files(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return the files of containers/image, which requests the names in the mirror's location.

    Raises ConfigurationError.
    """
    locations = {name: _location(endpoint, name, settings) for name in settings.upstreams}
    if endpoint.only and None in locations.values():
        lost = next(name for name, location in locations.items() if location is None)
        raise ConfigurationError(
            f"--only: podman and its kin cannot ask the mirror for {lost}, as no path can have the "
            f'colon: set a host of the mirror in `hosts` of upstreams."{lost}"'
        )
    tables = [_registry(endpoint, name, each, settings) for name, each in locations.items()]
    written = {"registries.conf": "\n".join([HEAD, *tables])}
    for location in filter(None, locations.values()):
        written |= endpoint.trust(f"certs.d/{location.partition('/')[0]}/ca.crt")
    return written


def _location(endpoint: ClientEndpoint, name: str, settings: Settings) -> str | None:
    if ":" not in name:
        return f"{endpoint.authority}/{name}"
    url = endpoint.url_of(name, settings)  # a path cannot contain a colon
    return None if url is None else authority(url)


def _registry(endpoint: ClientEndpoint, name: str, location: str | None, settings: Settings) -> str:
    if location is None:
        return f"# {name}: needs a host of the mirror in `hosts`\n"
    if endpoint.only:
        return (
            f"[[registry]]\nprefix = {quoted(name)}\n"
            f"location = {quoted(location)}\n{_insecure(endpoint.url)}"
        )
    return (
        f"[[registry]]\nprefix = {quoted(name)}\nlocation = {quoted(name)}\n"
        f"{_insecure(registry_url(name, settings))}\n[[registry.mirror]]\n"
        f"location = {quoted(location)}\n{_insecure(endpoint.url)}"
    )


def _insecure(url: str) -> str:
    return "insecure = true\n" if url.startswith("http:") else ""
