"""An export keeps its content from eviction while its command reads, and no longer."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from mirror.admin import order_requests
from mirror.admin.json_lines import order_line
from mirror.admin.messages import ExportOrder
from mirror.admin.socket_path import Connection, short_path
from tests.standin import Hub, make_image
from tests.support.mirror import Mirror
from tests.support.waiting import until


async def test_a_reader_that_stops_keeps_the_content_for_a_time_only(
    mirror: Mirror, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image("large", [8_000_000])
    hub.add(image, "library/large", "1")
    await mirror.pull("library/large", "1", image)
    await mirror.settled()
    digest = image.layers[0].digest
    await until(lambda: not mirror.stored.readers(digest))
    monkeypatch.setattr(order_requests, "PATIENCE", 0.5)
    with (
        short_path(mirror.folder.path) as path,
        closing(Connection(path, 10)) as connection,
    ):
        connection.request("POST", "/orders", order_line(ExportOrder(("large:1",))))
        await until(lambda: mirror.stored.readers(digest) > 0)
        await until(lambda: not mirror.stored.readers(digest))
        received = await asyncio.to_thread(lambda: len(read_on(connection)))
    assert 0 < received < 8_000_000


def read_on(connection: Connection) -> bytes:
    """Return the bytes up to the end of a connection, which the mirror has closed."""
    connection.sock.settimeout(5)
    with connection.sock.makefile("rb") as file:
        return file.read()
