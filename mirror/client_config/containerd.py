"""The files of containerd: a folder for each registry, with its `hosts.toml`."""

from __future__ import annotations

from mirror.client_config.endpoint import (
    CA_FILE,
    HEAD,
    ClientEndpoint,
    Files,
    is_at,
    quoted,
    registry_url,
)
from mirror.settings import Settings

_REGISTRYS_CA = "registry-ca.crt"  # in the folder of a registry, beside the file that names it


def files(endpoint: ClientEndpoint, settings: Settings) -> Files:
    """Return containerd's files: a folder per registry, one for others. Requests have `ns`."""
    written: Files = {}
    for name in [*settings.upstreams, "_default"]:
        written |= registry_folder(name, endpoint, name, settings, CA_FILE)
    return written | endpoint.trust(CA_FILE)


def registry_folder(
    path: str, endpoint: ClientEndpoint, name: str, settings: Settings, ca_file: str
) -> Files:
    """Return a registry's folder, with its own CA: beside a `hosts.toml` no other is looked for.

    `ca_file` is the file of the mirror's CA, relative to the folder of all registries' folders.
    """
    own = "" if endpoint.only else endpoint.registries.get(name, "")
    if name not in settings.upstreams or not is_at(settings.upstreams[name].url, name):
        own = ""  # the CA of another host's certificate
    hosts = _hosts(endpoint, name, settings, ca_file, has_ca=bool(own))
    return {f"{path}/hosts.toml": hosts} | ({f"{path}/{_REGISTRYS_CA}": own} if own else {})


def _hosts(
    endpoint: ClientEndpoint, name: str, settings: Settings, ca_file: str, *, has_ca: bool
) -> str:
    """Return a registry's `hosts.toml`: the mirror, and the registry as its fallback unless `only`.

    `server` is asked last; without it, that is the registry itself. With `only` it is the mirror
    again, for pushes only, or each refused request would be sent twice. A file without a host table
    is ignored by version 1.6 (measured). With `has_ca`, the registry's own CA is beside this file.
    """
    ca = f'ca = "../{ca_file}"\n' if endpoint.ca else ""
    server = ""
    if endpoint.only:
        server = f'server = {quoted(endpoint.url)}\ncapabilities = ["push"]\n{ca}\n'
    elif name != "_default":
        own = f"ca = {quoted(_REGISTRYS_CA)}\n" if has_ca else ""
        server = f"server = {quoted(registry_url(name, settings))}\n{own}\n"
    pull = f'[host.{quoted(endpoint.url)}]\n  capabilities = ["pull", "resolve"]\n'
    return f"{HEAD}{server}{pull}{ca and '  ' + ca}"
