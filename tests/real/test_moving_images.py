"""Images move to a mirror without a network, and layouts are those that other programs have."""

from pathlib import Path

import pytest

from tests.standin import Hub, Image, make_image, make_index

from .containers import Skopeo
from .dockerd import Docker
from .engines import Engine
from .mirrors import COMMAND, Mirror, mirroring
from .processes import environment, run
from .rootfs import GREETING, NATIVE, PROGRAM

APP = "library/app"
NOBODY = "http://127.0.0.1:1"  # refuses at once


async def do(mirror: Mirror, *words: str | Path) -> str:
    """Run a command for a mirror's data; returns its output."""
    command = (COMMAND, *words, "--data-dir", mirror.data)
    return (await run(*command, env=environment(mirror.data.parent))).decode()


@pytest.mark.parametrize("engine", ["dockerd", "containerd", "podman"], indirect=True)
@pytest.mark.parametrize("name", ["images.tar", "images"])
async def test_an_engine_pulls_and_runs_an_imported_image_without_upstream(
    engine: Engine, hub: Hub, port: int, image: Image, tmp_path: Path, name: str
) -> None:
    hub.add(make_index([image, make_image("other", [1000], architecture="riscv64")]), APP, "1")
    async with mirroring(hub.url, port) as first:
        await engine.pull(APP, "1")
        before = await engine.held(APP, "1")
        await engine.forget(APP, "1")
        printed = await do(first, "export", "app:1", "--output", tmp_path / name)
        assert f"platforms: linux/{NATIVE}" in printed
    async with mirroring(NOBODY, port) as second:
        await do(second, "import", tmp_path / name)
        await engine.pull(APP, "1")
        assert await engine.held(APP, "1") == before
        if isinstance(engine, Docker):
            assert (await engine.output(APP, "1", PROGRAM, GREETING)).strip()
        await engine.forget(APP, "1")


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_skopeo_reads_an_export_and_writes_what_is_imported(
    engine: Engine, hub: Hub, port: int, image: Image, tmp_path: Path
) -> None:
    assert isinstance(engine, Skopeo)
    hub.add(image, APP, "1")
    env = environment(tmp_path)
    insecure = ("--src-tls-verify=false",)
    async with mirroring(hub.url, port) as first:
        await engine.pull(APP, "1")
        await do(first, "export", "app:1", "--output", tmp_path / "a.tar")
        await do(first, "export", "app:1", "--output", tmp_path / "a")
        for source in (f"oci-archive:{tmp_path}/a.tar:1", f"oci:{tmp_path}/a:1"):
            target = tmp_path / "copied"
            await run("skopeo", "copy", source, f"dir:{target}", env=env)
            assert (target / "manifest.json").read_bytes() == image.manifest
        source = f"docker://127.0.0.1:{port}/{APP}:1"
        target_name = f"oci-archive:{tmp_path}/b.tar:docker.io/{APP}:2"
        await run("skopeo", "copy", *insecure, source, target_name, env=env)
    async with mirroring(NOBODY, port) as second:
        await do(second, "import", tmp_path / "b.tar")
        await engine.pull(APP, "2")
        assert image.digest in (await engine.held(APP, "2")).manifests
