"""One client's questions keep no other's from an upstream, however many they are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from mirror.oci import media
from mirror.oci.digest import Digest
from tests.attacks.raw import answer
from tests.support.mirror import Run

BODY = b'{"schemaVersion":2,"layers":[]}'
TYPE = b"Content-Type: " + media.OCI_MANIFEST.encode()


@pytest.mark.parametrize(("kind", "most"), [("manifests", 48), ("blobs", 36)])
async def test_a_crowd_of_made_up_names_keeps_no_other_client_from_upstream(
    run: Run, kind: str, most: int
) -> None:
    """Of which not one is answered here: all connections, or all fetches, would be taken."""
    silent, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if b"sha256:0000" in await reader.readuntil(b"\r\n\r\n"):
                asked.release()
                await silent.wait()
            writer.write(answer(BODY, TYPE))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with run(upstreams={"docker.io": {"url": url}}, answer_timeout=60) as mirror:
        paths = (f"/v2/library/nginx/{kind}/sha256:{number:064x}" for number in range(200))
        crowd = [asyncio.create_task(mirror.ask_from("127.0.0.5", path)) for path in paths]
        try:
            async with asyncio.timeout(15):
                for _ in range(most):
                    await asked.acquire()
                got = await mirror.ask(f"/v2/library/nginx/{kind}/{Digest.of(BODY)}")
            assert got.body == BODY
        finally:
            for each in crowd:
                each.cancel()
            silent.set()
            await asyncio.gather(*crowd, return_exceptions=True)
    server.close()
