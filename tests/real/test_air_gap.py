"""The guide to a network without internet, typed as it stands, between two mirrors."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.standin import Hub, Image
from tests.support.ports import free_port

from .mirrors import COMMAND
from .processes import PATH, Process, answers, environment, needs, run
from .rootfs import NATIVE
from .tutorial import steps

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "air-gap.md").read_text()
APP, NAME = "library/app", "app:1"


class Side:
    """A mirror on one side of the gap, and the shell of its operator in `desk`."""

    def __init__(self, folder: Path, desk: Path, **more: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder, self._desk = folder, desk
        folder.mkdir()
        path = f"{Path(sys.executable).parent}:{PATH}"
        given = {"MIRROR_DATA_DIR": str(folder / "data"), "MIRROR_LISTEN": self.url[7:]}
        self._env = environment(folder, **given, **more) | {"PATH": path}

    def start(self) -> Process:
        """Start the mirror and wait until it serves."""
        process = Process([COMMAND, "serve"], self._env, self._folder / "log")
        process.until(lambda: answers(f"{self.url}/readyz"))
        return process

    async def type(self, section: str) -> str:
        """Type the lines of a section; returns what they print."""
        [step] = [step for step in steps(PAGE) if step.section == section]
        line = f"cd {self._desk} && {step.typed.replace('linux/amd64', f'linux/{NATIVE}')}"
        return (await run("bash", "-e", "-c", line, env=self._env)).decode()


async def test_images_cross_the_gap_as_the_guide_says(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    needs("skopeo", "bash")
    hub.add(image, APP, "1")
    (tmp_path / "images.txt").write_text(f"{NAME}\n")
    here = Side(tmp_path / "here", tmp_path, MIRROR_UPSTREAMS__DOCKER_IO__URL=hub.url)
    process = here.start()
    try:
        await here.type("1. Collect the images")
        await here.type("2. Carry the file")
    finally:
        await asyncio.to_thread(process.stop)
    await hub.down()
    [config] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "mirror.toml").write_text(config)
    there = Side(tmp_path / "there", tmp_path, MIRROR_CONFIG=str(tmp_path / "mirror.toml"))
    process = there.start()
    try:
        assert APP in await there.type("4. Import")
        source = f"docker://{there.url[7:]}/{NAME}"
        words = ("skopeo", "copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/pulled")
        await run(*words, env=environment(tmp_path))
    finally:
        await asyncio.to_thread(process.stop)
    assert (tmp_path / "pulled" / "manifest.json").read_bytes() == image.manifest
