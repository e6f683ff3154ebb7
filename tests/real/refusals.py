"""A mirror that refuses an image, and a registry that engines reach by name without it."""

from pathlib import Path

import pytest

from tests.standin import Hub, Image

from .engines import Engine
from .mirrors import mirroring, tell
from .processes import CommandFailed

APP, SECRET = "org/app", "org/secret"
CONFIG = """\
upstreams."{name}" = {{ url = "{url}", hosts = ["localhost"], deny = ["org/secret"] }}
"""


def told(engine: Engine, hub: Hub, *, only: bool) -> str:
    """Configure an engine anew for the hub by the hub's name; returns that name."""
    tell(engine.client, engine.port, engine.configured, config=_config(hub), only=only)
    return _name(hub)


async def denied_with_only_alone(engine: Engine, hub: Hub, image: Image, folder: Path) -> None:
    """Have the mirror deny an image to an engine, first with `--only` and then without."""
    for app in (APP, SECRET):
        hub.add(image, app, "1")
    allowed, secret = (f"{told(engine, hub, only=True)}/{app}" for app in (APP, SECRET))
    file = folder / "denies.toml"
    file.write_text(_config(hub))
    async with mirroring(hub.url, engine.port, "--config", str(file), "--limit-check", "0"):
        with pytest.raises(CommandFailed):
            await engine.pull(secret, "1")
        assert not hub.requests
        await engine.pull(allowed, "1")
        assert (await engine.held(allowed, "1")).is_same(image)
        assert hub.pulls == 1
        told(engine, hub, only=False)
        await engine.pull(secret, "1")
        assert (await engine.held(secret, "1")).is_same(image)
        assert hub.count(repository=SECRET, kind="manifest")


async def unknown_with_only(engine: Engine, hub: Hub, image: Image) -> None:
    """Have an engine with `--only` pull from a registry that the mirror does not know."""
    tell(engine.client, engine.port, engine.configured, only=True)
    hub.add(image, APP, "1")
    async with mirroring("http://127.0.0.1:1", engine.port, "--limit-check", "0") as mirror:
        with pytest.raises(CommandFailed):
            await engine.pull(f"{_name(hub)}/{APP}", "1")
        assert not hub.requests
        await mirror.until(lambda: f"no upstream '{_name(hub)}' here" in mirror.log)


def _config(hub: Hub) -> str:
    return CONFIG.format(name=_name(hub), url=hub.url)


def _name(hub: Hub) -> str:
    return hub.url.removeprefix("http://")
