"""Images whose documents say what a test wants them to say."""

from __future__ import annotations

import json
from typing import Any

from tests.standin import Blob, Image
from tests.standin.blobs import digest_of
from tests.standin.images import OCI


def describe_image(layers: list[Blob], config: object, **more: object) -> Image:
    """Make an image with this config document, and with more keys in its manifest."""
    body = config if isinstance(config, bytes) else json.dumps(config).encode()
    blob = Blob.of(body, OCI.config)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "config": {"mediaType": OCI.config, "digest": blob.digest, "size": blob.size},
        "layers": [
            {"mediaType": OCI.layer, "digest": each.digest, "size": each.size} for each in layers
        ],
    }
    manifest = json.dumps(document | more).encode()
    return Image(manifest, OCI.manifest, digest_of(manifest), blob, tuple(layers))
