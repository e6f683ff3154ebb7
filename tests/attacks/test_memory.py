"""What upstreams say again and again leaves no memory behind that grows with it."""

from __future__ import annotations

import gc
import json
import tracemalloc

from mirror.content.listings.referrers import Referrers
from tests.attacks.test_documents import push
from tests.standin import Fault, Hub, Image, make_artifact
from tests.support.mirror import Mirror

NAME = "library/nginx"
MANY = 30
WRONG = json.dumps({"schemaVersion": 2, "layers": [], "x": "y" * 1_000_000}).encode()


async def test_what_is_remembered_of_a_failure_holds_nothing_of_what_came(
    hub: Hub, mirror: Mirror
) -> None:
    """A megabyte of wrong bytes for each digest: a failure with its frames would keep them."""
    hub.faults.add(Fault(kind="manifest", method="GET", body=WRONG, times=None))
    tracemalloc.start()
    try:
        for number in range(MANY):
            digest = push(hub, json.dumps({"layers": [], "number": number}).encode())
            got = await mirror.manifest(NAME, digest)
            assert got.status == 502
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10_000_000


async def test_a_listing_is_written_once_for_all_who_ask_for_it(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """Slow readers hold the one copy in memory, and none causes another."""
    for number in range(3):
        artifact = make_artifact(number, image, artifact_type=f"a/{number}")
        hub.add(artifact, NAME)
    path = f"/v2/{NAME}/referrers/{image.digest}"
    whole = await mirror.ask(path)
    again = await mirror.ask(path)
    assert whole.body == again.body
    items = json.loads(whole.body)["manifests"]
    assert len(items) == 3
    filtered = await mirror.ask(f"{path}?artifactType=a/1")
    assert json.loads(filtered.body)["manifests"] == [
        item for item in items if item["artifactType"] == "a/1"
    ]
    listed = Referrers([("a/1", b'{"x": 1}')], b"whole")
    assert await listed.index(()) is listed.whole
    assert json.loads(await listed.index({"a/1"}))["manifests"] == [{"x": 1}]
    assert json.loads(await listed.index({"a/2"}))["manifests"] == []
