"""Engines get from unusual upstreams through the mirror the same as directly."""

import pytest

from tests.standin import Fault, Hub, Image

from .engines import Engine
from .mirrors import mirroring

APP = "library/app"
ODD_TYPES = {"Content-Type": "text/html", "Content-Encoding": "aws-chunked"}
UPSTREAMS: dict[str, list[Fault]] = {
    "refuses every HEAD": [Fault(method="HEAD", status=405, times=None)],
    "denies every HEAD": [
        Fault(method="HEAD", status=403, times=None),
        Fault(port="registry", kind="blob", method="HEAD", status=403, times=None),
    ],
    "says nothing in its headers": [
        Fault(kind="manifest", headers={"Docker-Content-Digest": None, "ETag": None}, times=None),
        Fault(kind="blob", chunked=True, headers={"Content-Type": None}, times=None),
    ],
    "names odd encodings": [
        Fault(kind="manifest", headers={"Content-Encoding": ""}, times=None),
        Fault(kind="blob", headers=ODD_TYPES, times=None),
    ],
    "sends something else at first": [
        Fault(kind="manifest", method="GET", body=b'{"schemaVersion": 2}'),
        Fault(kind="blob", port="cdn", status=403),
        Fault(kind="blob", cut_after=100_000, times=2),
    ],
}


@pytest.mark.parametrize("odd", UPSTREAMS)
async def test_an_odd_upstream_is_pulled_from_as_without_a_mirror(
    engine: Engine, hub: Hub, port: int, image: Image, odd: str
) -> None:
    hub.add(image, APP, "1")
    for fault in UPSTREAMS[odd]:
        hub.faults.add(fault)
    async with mirroring(hub.url, port, "--tag-ttl", "0") as mirror:
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)
        await engine.forget(APP, "1")
        await mirror.restart()
        await engine.pull(APP, "1")
        assert (await engine.held(APP, "1")).is_same(image)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_stored_image_is_pulled_while_upstream_denies_all_by_mistake(
    engine: Engine, hub: Hub, port: int, image: Image, status: int
) -> None:
    hub.add(image, APP, "1")
    async with mirroring(hub.url, port, "--tag-ttl", "0") as mirror:
        await engine.pull(APP, "1")
        hub.faults.add(Fault(status=status, times=None))
        hub.faults.add(Fault(port="token", status=status, times=None))
        for restart in (False, True):
            await engine.forget(APP, "1")
            if restart:
                await mirror.restart()
            await engine.pull(APP, "1")
            assert (await engine.held(APP, "1")).is_same(image)
