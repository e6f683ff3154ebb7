"""Several registries behind one mirror, and an engine that pulls from all of them at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.standin import Hub, Image

from .conftest import image_called
from .engines import Engine
from .mirrors import GHCR, QUAY, UPSTREAMS, Mirror, mirroring

APPS = ("library/app", f"{GHCR}/org/app", f"{QUAY}/team/sub/app")  # one of each registry


class Registries:
    """A hub for each name; each has another image under the same tag."""

    def __init__(self, hubs: list[Hub], name: str) -> None:
        self.hubs = dict(zip(UPSTREAMS, hubs, strict=True))
        self.images: dict[str, Image] = {}
        for upstream, app in zip(UPSTREAMS, APPS, strict=True):
            self.images[app] = image_called(f"{name}, {upstream}")
            repository = app.removeprefix(f"{upstream}/")
            self.hubs[upstream].add(self.images[app], repository, "1")


@asynccontextmanager
async def several(name: str) -> AsyncIterator[Registries]:
    """Run Docker Hub and two other registries on loopback; the images have this name."""
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(Hub()) for _ in UPSTREAMS]
        yield Registries(hubs, name)


@asynccontextmanager
async def mirroring_all(registries: Registries, port: int, folder: Path) -> AsyncIterator[Mirror]:
    """Run a mirror of all three upstreams of the engines' configuration."""
    hub, *others = registries.hubs.values()
    config = folder / "mirror.toml"
    config.write_text(f'upstreams."{QUAY}" = {{ url = "{others[1].url}", hosts = ["localhost"] }}')
    ghcr = ("--upstream", f"{GHCR}={others[0].url}")
    options = ("--config", str(config), "--limit-check", "0", *ghcr)
    async with mirroring(hub.url, port, *options) as mirror:
        yield mirror


async def pulled_at_once(engine: Engine, registries: Registries) -> None:
    """Pull from all at once, cold and warm; each registry serves only its image, and once."""
    async with asyncio.TaskGroup() as group:
        for app in APPS:
            group.create_task(engine.pull(app, "1"))
    for app, image in registries.images.items():
        assert (await engine.held(app, "1")).is_same(image)
    for hub, image in zip(registries.hubs.values(), registries.images.values(), strict=True):
        assert hub.pulls == 1
        assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]
        hub.journal.clear()
    for app, image in registries.images.items():
        await engine.forget(app, "1")
        await engine.pull(app, "1")
        assert (await engine.held(app, "1")).is_same(image)
    assert not any(hub.requests for hub in registries.hubs.values())
