"""The files that make a client use this mirror, at `/setup`."""

from __future__ import annotations

from types import MappingProxyType

from mirror.client_config.clients import CLIENTS
from mirror.console.pages.head import head_of
from mirror.console.parts import ConsoleParts
from mirror.console.problem import Problem
from mirror.console.reply import ConsoleReply
from mirror.console.request import ConsoleRequest

_SECTION = "/setup"
# The folder of a client's files, and what makes the client read them (docs/clients.md).
_FOLDERS = MappingProxyType(
    {
        "docker": ("/etc/docker/", "Then reload dockerd: systemctl reload docker"),
        "containerd": ("/etc/containerd/certs.d/", "containerd reads the files at each pull."),
        "buildkit": ("/etc/buildkit/", "Then restart buildkitd."),
        "k3s": ("/etc/rancher/k3s/", "Then restart k3s."),
    }
)
_CONTAINERS = ("/etc/containers/", "The file is read at each pull.")


async def setup(parts: ConsoleParts, request: ConsoleRequest) -> ConsoleReply:
    """Answer with the files of the chosen client, which name the upstreams; raises Problem."""
    request.viewer.need_trust()
    client = request.query.get("client", "docker")
    if client not in CLIENTS:
        raise Problem(400, f"expected a client of {', '.join(CLIENTS)}")
    url = parts.client_files.url(request.scheme, request.host)
    written, fault = parts.client_files.of(client, url)
    folder, after = _FOLDERS.get(client, _CONTAINERS)
    page = parts.templates.render(
        "setup.html",
        head=head_of(parts.mirror, request, _SECTION),
        url=url,
        clients=list(CLIENTS),
        client=client,
        files=written,
        fault=fault,
        folder=folder,
        after=after,
        trusts=request.scheme == "https",
    )
    return ConsoleReply.html(page)
