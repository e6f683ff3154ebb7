"""The mirror serves an upstream without logins, redirects and limits like the hub."""

from collections.abc import Iterator

import pytest

from tests.standin import Hub, Image

from .engines import Engine
from .mirrors import mirroring
from .plain import PlainRegistry
from .processes import needs, scratch

APP = "library/app"


@pytest.fixture
def registry() -> Iterator[PlainRegistry]:
    needs("docker-registry", "skopeo")
    with scratch() as folder, PlainRegistry(folder) as registry:
        yield registry


async def test_a_plain_registry_is_asked_once_and_then_not_missed(
    engine: Engine, hub: Hub, registry: PlainRegistry, port: int, image: Image
) -> None:
    hub.add(image, APP, "1")
    await registry.fill(hub.url, f"{APP}:1")
    before = len(registry.asked)
    async with mirroring(registry.url, port) as mirror:
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        cold = registry.asked[before:]
        for digest in (image.digest, *(blob.digest for blob in image.blobs)):
            assert [asked.split()[0] for asked in cold if digest in asked] == ["GET"]

        await engine.forget(APP, "1")
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        assert registry.asked[before:] == cold

        await engine.forget(APP, "1")
        registry.stop()
        await mirror.restart()
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
