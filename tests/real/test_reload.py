"""Docker applies the files of `client-config` at a reload, without a restart."""

import asyncio

from tests.standin import Hub, Image

from .dockerd import Docker
from .mirrors import Mirror, tell
from .processes import needs, scratch


async def test_dockerd_that_is_reloaded_pulls_through_the_mirror(
    hub: Hub, mirror: Mirror, image: Image, port: int
) -> None:
    needs(*Docker.programs)
    hub.add(image, "library/app", "1")
    with scratch() as folder:
        docker = Docker(folder, port)
        (docker.configured / "daemon.json").unlink()
        with docker:
            assert await docker.mirrors() == []
            tell(docker.client, port, docker.configured)
            await asyncio.to_thread(docker.reload)
            assert await docker.mirrors() == [f"{mirror.url}/"]
            await docker.pull("library/app", "1")
            assert (await docker.held("library/app", "1")).is_same(image)
    assert hub.pulls == 1
