"""What upstreams say again and again leaves no memory behind that grows with it."""

from __future__ import annotations

import gc
import json
import tracemalloc

from tests.attacks.test_documents import push
from tests.conftest import Mirror
from tests.standin import Fault, Hub

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
