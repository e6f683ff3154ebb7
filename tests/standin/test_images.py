"""Real engines accept the stand-in's content."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from . import image_from_rootfs, make_image, make_index


def test_images_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    assert make_image(7, [5000]).digest == make_image(7, [5000], folder=tmp_path).digest
    assert make_image(7, [5000]).digest != make_image(8, [5000]).digest


@pytest.mark.parametrize("media", ["oci", "docker"])
def test_an_image_can_be_unpacked(media: str) -> None:
    image = make_image(3, [20_000_000, 10], "oci" if media == "oci" else "docker")
    config = json.loads(image.config.read())
    for layer, diff_id in zip(image.layers, config["rootfs"]["diff_ids"], strict=True):
        tar = gzip.decompress(layer.read())
        assert "sha256:" + hashlib.sha256(tar).hexdigest() == diff_id
        with tarfile.open(fileobj=io.BytesIO(tar)) as files:
            assert all(entry.isfile() for entry in files)
    assert image.layers[0].size == pytest.approx(20_000_000, rel=0.001)
    assert media in image.media_type


def test_a_root_file_system_becomes_an_image_and_images_an_index() -> None:
    rootfs = image_from_rootfs(b"\0" * 10240, ["/hello"])
    assert json.loads(rootfs.config.read())["config"]["Cmd"] == ["/hello"]
    index = make_index([rootfs, make_image(1, architecture="arm64")])
    platforms = [entry["platform"] for entry in json.loads(index.manifest)["manifests"]]
    assert platforms == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
