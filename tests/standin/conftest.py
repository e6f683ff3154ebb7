"""The fixtures of the tests of the stand-in: a hub with one image, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from tests.standin import Hub, Image, make_image
from tests.standin.client import Client

NGINX = "library/nginx"


@pytest.fixture
def image() -> Image:
    return make_image(1, [100_000, 1000])


@pytest.fixture
async def hub(image: Image) -> AsyncIterator[Hub]:
    async with Hub() as hub:
        hub.add(image, NGINX, "latest")
        yield hub


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[Client]:
    async with Client(hub) as client:
        yield client


def layer_path(image: Image) -> str:
    """Return the path of the image's first layer, under `/v2/`."""
    return f"{NGINX}/blobs/{image.layers[0].digest}"
