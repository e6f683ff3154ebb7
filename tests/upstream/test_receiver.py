"""The receiver relies on private names of aiohttp; a test names the ones that are missing."""

from __future__ import annotations

import ast
import asyncio
import inspect

import aiohttp
from aiohttp.client_proto import ResponseHandler

from mirror.upstream import receiver
from mirror.upstream.leases import Leases
from tests.attacks.raw import Raw, speaking


def names() -> set[str]:
    """Collect the names of aiohttp's handler that the receiver reads, calls or replaces.

    Names that the receiver assigns first belong to the receiver.
    """
    tree = ast.parse(inspect.getsource(receiver.Receiver))
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    methods = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    added = {"__init__", "_refuse", "_is_plain", "_hold", "_next", "cut", "parse_slice", "_parse"}
    return (used | methods) - own - added


async def test_the_names_of_aiohttp_that_the_receiver_rests_on_are_there() -> None:
    handler = ResponseHandler(asyncio.get_running_loop())
    expected = {"_parser", "_payload", "_buffer_paused", "_reading_paused", "feed_data"}
    assert expected <= names()
    gone = sorted(name for name in names() if not hasattr(handler, name))
    assert not gone, f"aiohttp {aiohttp.__version__} has no {gone}: receiver.py does not hold"


async def test_connections_to_upstreams_are_receivers() -> None:
    connector = receiver.Connector(receiver.Slices(), Leases())
    async with speaking(Raw()) as raw, aiohttp.ClientSession(connector=connector) as session:
        raw.answers["GET"] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
        raw.endless = b"x" * 1000
        async with session.get(raw.url) as response:
            assert response.connection is not None
            assert isinstance(response.connection.protocol, receiver.Receiver)
