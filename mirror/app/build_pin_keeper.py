"""The keeper of pinned tags, built for the first pin: this module loads its modules."""

from __future__ import annotations

from mirror.admin.pin_keeper import PinKeeper
from mirror.admin.pin_renewal import PinRenewal
from mirror.app.parts import Parts


def build_pin_keeper(parts: Parts) -> PinKeeper:
    """Return the keeper, which does not run yet."""
    return PinKeeper(
        store=parts.core.store,
        manifests=parts.content.manifests,
        upstreams=parts.upstreams.registries,
        absent=parts.absent_pins,
        renewal=PinRenewal(parts.core.budget, parts.content.manifests, parts.service),
    )
