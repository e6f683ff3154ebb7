"""The source of manifests: the client of a registry, or a model of one."""

from __future__ import annotations

from typing import Protocol

from mirror.oci.manifest import Hint, Manifest
from mirror.oci.names import Reference
from mirror.upstream.telemetry import Observer


class ManifestSource(Protocol):
    """The source of manifests; it raises the errors of `RegistryClient`.

    `name` is the repository's, without its upstream.
    """

    @property
    def answers_heads(self) -> bool:
        """Whether HEADs are answered at present, as far as that is known without asking."""

    async def hint(
        self, name: str, reference: Reference, observe: Observer, *, insist: bool = False
    ) -> Hint:
        """Ask for a manifest's descriptor by HEAD; `observe` is told of each response."""

    async def get_manifest(
        self,
        name: str,
        reference: Reference,
        observe: Observer,
        *,
        retry_as: Reference | None = None,
    ) -> Manifest:
        """Get a manifest; a wrong body is requested once more by `retry_as`, if that is given."""
