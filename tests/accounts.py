"""Upstreams with an account, as tests configure them."""

from __future__ import annotations

from tests.standin import Hub


def upstream(hub: Hub, **keys: object) -> dict[str, object]:
    """Return the settings of the hub as the one upstream, which everyone may read from."""
    return {"docker.io": {"url": hub.url, "private": "everyone", **keys}}
