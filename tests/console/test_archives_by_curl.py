"""Images move from mirror to mirror by the documented lines, with a real curl."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.project.test_docs import PROJECT
from tests.standin import Hub, Image
from tests.support.command import NOBODY, environment, fetch, serving

TOKEN = "a-token-of-more-than-16"
ENV = {"MIRROR_CLIENTS": json.dumps({"alice": {"token": TOKEN}})}
OPERATOR = ("--operators", "alice")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def documented() -> tuple[list[str], str]:
    """Return the lines of the first example, and the pipe of the second."""
    section = (PROJECT / "docs" / "api.md").read_text().partition("\n## Archives\n")[2]
    lines, pipe = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[:2]
    return lines.splitlines(), pipe


async def typed(line: str, folder: Path) -> dict[str, object]:
    """Run a line in a shell, in a folder; returns the document that it prints, if any."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-o", "pipefail", "-ec", line),
        cwd=folder,
        env=environment({"PASSWORD": TOKEN, "no_proxy": "*"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out) if out else {}


@needs_curl
async def test_images_move_from_mirror_to_mirror_as_documented(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    hub.add(image, "library/nginx", "1.25")
    lines, pipe = documented()
    one, two, three = (tmp_path / each for each in ("one", "two", "three"))
    flags = ("--upstream", f"docker.io={hub.url}", *OPERATOR)
    async with serving(one, *flags, env=ENV) as command:
        url = await command.address()
        for path in ("manifests/1.25", *(f"blobs/{each.digest}" for each in image.blobs)):
            assert (await fetch(f"{url}/v2/library/nginx/{path}"))[0] == 200
        for folder, wanted in ((two, lines), (three, [pipe])):
            async with serving(folder, "--upstream", NOBODY, *OPERATOR, env=ENV) as other:
                to = await other.address()
                told: dict[str, object] = {}
                for line in wanted:
                    here = line.replace("http://mirror.example:5000", url)
                    here = here.replace("http://other.example:5000", to)
                    here = here.replace("&image=ghcr.io/a/b:2", "")
                    told = await typed(here.replace("-u alice ", f"-u alice:{TOKEN} "), tmp_path)
                assert told["blobs"] == len(image.blobs) + 1
                for blob in image.blobs:
                    path = f"library/nginx/blobs/{blob.digest}"
                    assert await fetch(f"{to}/v2/{path}") == (200, blob.read())
