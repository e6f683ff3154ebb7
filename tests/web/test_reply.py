"""A reply's client: however its connection ends, the reply ends in order."""

from __future__ import annotations

import asyncio

from mirror.web.sending import ClientStream

BODY = bytes(8 * 1024 * 1024)  # more than the kernel takes at once


async def test_a_connection_that_closed_behind_its_last_byte_may_be_broken_off() -> None:
    """A server may close a connection while a reply still waits for upstream."""
    served: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set_result(writer)

    async with asyncio.timeout(10), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        transport = (await served).transport
        assert isinstance(transport, asyncio.Transport)
        transport.write(BODY)
        transport.close()
        assert transport.get_write_buffer_size()  # the close waits for these bytes
        assert await reader.read(len(BODY) + 1)
        while len(await reader.read(2**20)):
            pass
        ClientStream(None, transport).abort()  # type: ignore[arg-type]  # nothing is written
        writer.close()
