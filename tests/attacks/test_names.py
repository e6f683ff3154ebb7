"""Names that resolve slowly, or never, hold up nothing but more of these."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from yarl import URL

from mirror.oci import media
from mirror.oci.digest import Digest
from mirror.upstream.auth import realm_policy
from mirror.upstream.auth.credential_manager import CredentialManager
from mirror.upstream.auth.credentials import StaticCredentials
from mirror.upstream.auth.login import Login, LoginPolicy
from mirror.upstream.lookups import Lookups
from tests.attacks.raw import Raw, answer, speaking
from tests.support.mirror import Run

BODY = b'{"schemaVersion":2,"layers":[]}'
TYPE = b"Content-Type: " + media.OCI_MANIFEST.encode()


@dataclass
class Silent:
    """The system's resolver, in front of a name server that leaves names of `.silent` unanswered.

    `asked` is released for each of these; all other names are this machine's.
    """

    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    end: threading.Event = field(default_factory=threading.Event)

    def resolve(self, host: str, port: int, *_: object, **__: object) -> list[Any]:
        """Answer as `socket.getaddrinfo` does."""
        if host.endswith(".silent"):
            self.asked.release()
            self.end.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def hangs(self, count: int) -> None:
        """Wait until so many more names are being looked up in vain."""
        for _ in range(count):
            assert await asyncio.to_thread(self.asked.acquire, timeout=10)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """A name server that answers some names only."""
    silent = Silent()
    monkeypatch.setattr(socket, "getaddrinfo", silent.resolve)
    yield silent
    silent.end.set()


async def test_names_that_an_upstream_leads_to_hold_up_no_other_upstream(
    run: Run, silent: Silent
) -> None:
    async with speaking(Raw()) as good, speaking(Raw()) as bad:
        good.answers["/manifests/"] = answer(BODY, TYPE)
        for number in range(40):
            to = b"Location: http://n%d.silent/x" % number
            bad.answers[f"a{number}/manifests/"] = answer(b"", to, status=b"307 Temporary Redirect")
        named = good.url.replace("127.0.0.1", "good.example")
        upstreams = {"docker.io": {"url": named}, "bad.example": {"url": bad.url}}
        async with run(upstreams=upstreams, answer_timeout=5) as mirror:
            digests = [f"sha256:{number:064x}" for number in range(40)]
            asks = [
                asyncio.create_task(mirror.manifest(f"bad.example/b/a{number}", digest))
                for number, digest in enumerate(digests)
            ]
            await silent.hangs(4)
            assert (await mirror.manifest("library/good", Digest.of(BODY))).body == BODY
            silent.end.set()
            assert {got.status for got in await asyncio.gather(*asks)} <= {502, 503, 504}


async def test_names_that_an_upstream_leads_to_hold_up_no_name_of_its_own(silent: Silent) -> None:
    lookups = Lookups("own.example")
    others = [asyncio.create_task(lookups.resolve(f"n{n}.silent")) for n in range(64)]
    await silent.hangs(4)
    [found] = await lookups.resolve("own.example", 443)
    assert (found["host"], found["port"]) == ("127.0.0.1", 443)
    with pytest.raises(OSError, match="too many names"):
        await lookups.resolve("one.more")
    silent.end.set()
    await asyncio.gather(*others, return_exceptions=True)
    assert await lookups.resolve("one.more")
    await lookups.close()


async def test_token_servers_that_change_keep_no_threads_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each that is to see a password is looked for in the list of suffixes, which takes long."""
    plain = realm_policy._related
    running, most = 0, 0

    def counted(host: str, own: str) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return plain(host, own)
        finally:
            running -= 1

    monkeypatch.setattr(realm_policy, "_related", counted)
    own = "registry.example.com"
    login = Login(
        own,
        URL(f"http://{own}"),
        CredentialManager(own, StaticCredentials()),
        LoginPolicy(),
        cast("Any", None),
    )
    realms = (f"http://n{number}.example.com/token" for number in range(6))
    await asyncio.gather(*(login._realm(each, credentials=True) for each in realms))
    assert most == 1
