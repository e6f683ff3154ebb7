"""Current tools pull through the mirror, cold, warm, and with upstream gone."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.real.mirrors import Mirror, mirroring
from tests.real.processes import PATH, CommandFailed, environment, run, scratch
from tests.real.registries import APPS, mirroring_all, several
from tests.real.rootfs import FOREIGN, NATIVE
from tests.standin import Blob, Hub, Image, make_image, make_index

from .build import BIN
from .buildkit import BuildKit
from .engines import needs_built
from .tools import TOOLS, chart_pulled, copied, pulled

HELM = "application/vnd.cncf.helm"


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_tool_pulls_by_the_name_of_the_mirror(
    tool: str, hub: Hub, mirror: Mirror, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs_built(tool)
    hub.add(image, "org/app", "1")
    name = f"{mirror.url.removeprefix('http://')}/docker.io/org/app:1"
    assert (await pulled(tool, name, tmp_path_factory.mktemp("cold"))).is_same(image)
    assert hub.pulls == 1
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1, 1]
    hub.journal.clear()
    assert (await pulled(tool, name, tmp_path_factory.mktemp("warm"))).is_same(image)
    assert not hub.requests
    await hub.down()
    assert (await pulled(tool, name, tmp_path_factory.mktemp("alone"))).is_same(image)


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_tool_that_takes_every_platform_spends_a_pull_for_each(
    tool: str, hub: Hub, mirror: Mirror, tmp_path: Path
) -> None:
    needs_built(tool)
    images = [make_image(tool, [1000], architecture=each) for each in (NATIVE, FOREIGN)]
    hub.add(make_index(images), "org/app", "1")
    name = f"{mirror.url.removeprefix('http://')}/docker.io/org/app:1"
    await copied(tool, name, tmp_path)
    assert hub.pulls == 3


async def test_crane_is_told_that_an_image_is_private_by_one_upstream_request(
    hub: Hub, port: int, image: Image, tmp_path: Path
) -> None:
    """The client sends a HEAD and then a GET, and a second try sends both again."""
    needs_built("crane")
    hub.add(image, "org/secret", "1")
    hub.make_private("org/secret", "somebody")
    env = environment(tmp_path, PATH=f"{BIN}:{PATH}")
    async with mirroring(hub.url, port, "--limit-check", "0") as mirror:
        name = f"{mirror.url.removeprefix('http://')}/docker.io/org/secret:1"
        for _ in range(2):
            with pytest.raises(CommandFailed, match="DENIED"):
                await run("crane", "digest", name, env=env)
    assert hub.count(kind="token") == 2  # for the HEAD, and for the GET that decides
    assert hub.count(kind="manifest", status=401) == 3  # the challenge, and both refused


async def test_helm_pulls_a_chart(
    hub: Hub, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs_built("helm")
    hub.add(_chart(), "org/chart", "1.0.0")
    name = f"{mirror.url.removeprefix('http://')}/docker.io/org/chart"
    for situation in ("cold", "warm", "alone"):
        files = await chart_pulled(name, "1.0.0", tmp_path_factory.mktemp(situation))
        assert files == {"chart/Chart.yaml": _CHART}
        assert hub.pulls == (situation == "cold")
        hub.journal.clear()
        if situation == "warm":
            await hub.down()


async def test_buildkitd_builds_from_images_of_three_registries(
    port: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    needs_built("buildkitd", "buildctl")
    async with (
        several(request.node.name) as registries,
        mirroring_all(registries, port, tmp_path),
    ):
        with scratch() as folder, BuildKit(folder, port) as builder:
            for app in APPS:
                await builder.build(f"{app}:1")
            assert [hub.pulls for hub in registries.hubs.values()] == [1, 1, 1]
            for hub in registries.hubs.values():
                await hub.down()
            await builder.forget()
            for app in APPS:
                await builder.build(f"{app}:1")


_CHART = b"apiVersion: v2\nname: chart\nversion: 1.0.0\n"


def _chart() -> Image:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("chart/Chart.yaml")
        entry.size = len(_CHART)
        tar.addfile(entry, io.BytesIO(_CHART))
    layer = Blob.of(archive.getvalue(), f"{HELM}.chart.content.v1.tar+gzip")
    config = Blob.of(
        json.dumps({"apiVersion": "v2", "name": "chart", "version": "1.0.0"}).encode(),
        f"{HELM}.config.v1+json",
    )
    document = {
        "schemaVersion": 2,
        "config": _described(config),
        "layers": [_described(layer)],
    }
    manifest = json.dumps(document).encode()
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return Image(manifest, media_type, Blob.of(manifest).digest, config, (layer,))


def _described(blob: Blob) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
