"""Warmed images are pulled by real engines from a mirror whose registry has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.standin import Hub, Image, make_image, make_index

from .engines import Engine
from .mirrors import COMMAND, mirroring
from .plain import PlainRegistry
from .processes import environment, needs, run
from .rootfs import NATIVE

APP = "library/app"
COMPOSE = "services:\n  app:\n    image: ${REPOSITORY:-app}:1\n"
OTHER = "arm64" if NATIVE == "amd64" else "amd64"


@pytest.mark.parametrize("words", [("app:1",), ("--file", "-")], ids=["by name", "compose"])
async def test_a_warmed_image_is_pulled_without_its_registry(
    engine: Engine, hub: Hub, port: int, image: Image, tmp_path: Path, words: tuple[str, ...]
) -> None:
    needs("docker-registry", "skopeo")
    other = make_image("other", [5000], architecture=OTHER)
    index = make_index([image, other])
    for document in (image, other, index):
        hub.add(document, APP, *(("1",) if document is index else ()))
    with PlainRegistry(tmp_path) as registry:
        await registry.fill(hub.url, f"{APP}:1")
        before = len(registry.asked)
        async with mirroring(registry.url, port, "--tag-ttl", "1h") as mirror:
            command: list[str | Path] = [COMMAND, "warm", "--data-dir", mirror.data, *words]
            printed = await run(*command, env=environment(tmp_path), data=COMPOSE.encode())
            assert f"docker.io/library/app:1 (linux/{NATIVE}): 2 pulls and " in printed.decode()
            assert not [line for line in registry.asked[before:] if other.digest in line]
            registry.stop()
            await engine.pull(APP, "1")
            assert (await engine.held(APP, "1")).config == image.config.digest
            await engine.forget(APP, "1")
            printed = await run(*command, env=environment(tmp_path), data=COMPOSE.encode())
            assert "stored already" in printed.decode()
