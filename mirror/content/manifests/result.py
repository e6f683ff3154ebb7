"""The result of a request for a manifest: its descriptor, and how it was found."""

from __future__ import annotations

from typing import NamedTuple

from mirror.content.outcome import Outcome, StaleReason
from mirror.oci.manifest import Descriptor


class ManifestResult(NamedTuple):
    """A manifest to be served; without a body where none was asked for.

    A stale tag has an `age`, the seconds since upstream confirmed it, and the reason `why`.
    """

    descriptor: Descriptor
    body: bytes | None
    outcome: Outcome
    age: int | None = None
    why: StaleReason | None = None
