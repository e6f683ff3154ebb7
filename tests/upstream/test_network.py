"""The way to an upstream: trusted authorities, the client's certificate, proxies, and bounds."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from mirror.app.upstream_plans import connection_settings
from mirror.settings import ConfigurationError, load
from mirror.util.rate_limit import BandwidthLimit
from tests.standin import Hub, Image, make_image
from tests.support.mirror import Run
from tests.support.waiting import until

REPOSITORY = "library/nginx"
LOGIN = "robot:s3cret-word"


class Registry:
    """An upstream without a login. `names` are the names in clients' certificates, by kind."""

    def __init__(self, image: Image, cdn: str = "") -> None:
        self.image = image
        self.cdn = cdn
        self.names: list[tuple[str, str]] = []
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def manifest(self, request: web.Request) -> web.Response:
        """Answer with the only manifest."""
        self._note(request, "manifest")
        return web.Response(
            body=self.image.manifest,
            content_type=json.loads(self.image.manifest)["mediaType"],
            headers={"Docker-Content-Digest": self.image.digest},
        )

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """Send the headers at once, and the body when the gate is open."""
        self._note(request, "blob")
        if self.cdn:
            return web.Response(status=307, headers={"Location": self.cdn + request.path})
        [blob] = [b for b in self.image.blobs if b.digest == request.match_info["digest"]]
        self.running += 1
        self.most = max(self.most, self.running)
        response = web.StreamResponse()
        response.content_length = blob.size
        await response.prepare(request)
        await self.gate.wait()
        self.running -= 1
        await response.write(blob.read())
        return response

    def _note(self, request: web.Request, kind: str) -> None:
        certificate = request.transport and request.transport.get_extra_info("peercert")
        fields = {k: v for names in (certificate or {}).get("subject", ()) for k, v in names}
        self.names.append((kind, fields.get("commonName", "")))


@asynccontextmanager
async def served(registry: Registry, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve a registry; gives its URL."""
    app = web.Application()
    app.router.add_get("/v2/library/nginx/manifests/{reference}", registry.manifest)
    app.router.add_get("/v2/library/nginx/blobs/{digest}", registry.blob)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if context else 'http'}://localhost:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that signs all certificates."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """The certificate of the authority."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


def server(authority: trustme.CA, verify: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
    """Make the TLS context of a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = verify
    return context


def client(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """Make the mirror's own certificate, as settings."""
    issued = authority.issue_cert("mirror.example", common_name="the-mirror")
    issued.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    issued.private_key_pem.write_to_path(str(folder / "client.key"))
    return {"client_cert": folder / "client.pem", "client_key": folder / "client.key"}


def at(url: str, **keys: object) -> dict[str, object]:
    """Configure an upstream at a URL."""
    return {"docker.io": {"url": url, **keys}}


# TLS


async def test_an_upstream_is_trusted_if_its_own_authority_is(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path
) -> None:
    async with served(Registry(image), server(authority)) as url:
        async with run(upstreams=at(url)) as mirror:
            got = await mirror.manifest(REPOSITORY, "latest")
            assert got.status == 503
            assert b"certificate verify failed: " in got.body
        async with run(upstreams=at(url, ca_file=ca_file)) as mirror:
            await mirror.pull(REPOSITORY, "latest", image)


async def test_why_an_upstream_cannot_be_reached_is_said_in_a_few_words(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path
) -> None:
    async def told(url: str) -> str:
        async with run(upstreams=at(url, ca_file=ca_file)) as mirror:
            got = await mirror.manifest(REPOSITORY, "latest")
            assert got.status == 503
            return str(json.loads(got.body)["errors"][0]["message"])

    why = "cannot reach upstream "
    async with served(Registry(image), server(authority)) as url:
        other = url.replace("localhost", "127.0.0.1")
        mismatch = "certificate verify failed: IP address mismatch"
        assert await told(other) == f"{why}127.0.0.1: {mismatch}"
    assert await told(url) == f"{why}localhost: Connection refused"
    async with served(Registry(image)) as url:
        assert await told(url.replace("http:", "https:")) in {
            f"{why}localhost: TLS failed: {reason}"
            for reason in ("wrong version number", "record layer failure")
        }


async def test_a_certificate_is_shown_to_its_upstream_and_to_nobody_it_leads_to(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    cdn = Registry(image)
    keys = {"ca_file": ca_file, **client(authority, tmp_path)}
    async with served(cdn, server(authority, ssl.CERT_OPTIONAL)) as elsewhere:
        upstream = Registry(image, elsewhere)
        async with (
            served(upstream, server(authority, ssl.CERT_REQUIRED)) as url,
            run(upstreams=at(url, private="everyone", **keys)) as mirror,
        ):
            await mirror.pull(REPOSITORY, "latest", image)
    assert {name for _, name in upstream.names} == {"the-mirror"}
    assert {name for _, name in cdn.names} == {""}


async def test_what_is_given_to_the_certificate_alone_is_private(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    keys = {"ca_file": ca_file, **client(authority, tmp_path)}
    async with (
        served(Registry(image), server(authority, ssl.CERT_REQUIRED)) as url,
        run(upstreams=at(url, **keys)) as mirror,
    ):
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 403


@pytest.mark.parametrize("key", ["ca_file", "client_cert"])
@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_a_file_that_cannot_be_used_is_refused_at_the_start(
    run: Run, tmp_path: Path, key: str, text: str | None
) -> None:
    file = tmp_path / "some.pem"
    if text:
        await asyncio.to_thread(file.write_text, text)
    keys = {key: file} | ({"client_key": file} if key == "client_cert" else {})
    wanted = "PEM" if text else "cannot be read"
    with pytest.raises(ConfigurationError, match=rf"upstreams.docker.io.{key} is .*{wanted}"):
        async with run(upstreams=at("https://localhost:1", **keys)):
            pass


# A proxy


class Proxy:
    """A forward proxy that requires a login. `asked` are the first lines of its requests.

    All connections lead to `end`, if it is set.
    """

    def __init__(self, end: str = "") -> None:
        self.end = end
        self.asked: list[str] = []
        self.sent: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection, and forward it in both directions."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode().rstrip().split("\r\n")
        self.asked.append(line)
        login = base64.b64encode(LOGIN.encode()).decode()
        if f"proxy-authorization: basic {login}".lower() not in [f.lower() for f in fields]:
            writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, version = line.split()
        place = target.removeprefix("http://").partition("/")[0]
        there, on = await asyncio.open_connection(*(self.end or place).rsplit(":", 1))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
        else:
            kept = [f for f in fields if not f.lower().startswith(("proxy-", "connection"))]
            path = target.removeprefix(f"http://{place}")
            lines = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
            on.write("\r\n".join(lines).encode())
        await asyncio.gather(self._copy(reader, on), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.sent.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(end: str = "") -> AsyncIterator[tuple[Proxy, str]]:
    """Run a proxy; gives the proxy and its address."""
    proxy = Proxy(end)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        yield proxy, f"localhost:{listening.sockets[0].getsockname()[1]}"


async def test_a_tunnel_through_a_proxy_shows_it_nothing(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path
) -> None:
    async with (
        served(Registry(image), server(authority)) as url,
        proxied() as (proxy, place),
        run(upstreams=at(url, ca_file=ca_file, proxy=f"http://{LOGIN}@{place}")) as mirror,
    ):
        await mirror.pull(REPOSITORY, "latest", image)
        await mirror.session.close()
    assert {line.split()[0] for line in proxy.asked} == {"CONNECT"}
    assert image.digest.encode() not in b"".join(proxy.sent)


async def test_plain_http_goes_through_a_proxy_too(run: Run, image: Image) -> None:
    async with (
        served(Registry(image)) as url,
        proxied() as (proxy, place),
        run(upstreams=at(url, proxy=f"http://{LOGIN}@{place}")) as mirror,
    ):
        await mirror.pull(REPOSITORY, "latest", image)
    assert all(url in line for line in proxy.asked)
    assert len(proxy.asked) > 1


@pytest.mark.parametrize("tls", [False, True])
async def test_a_proxy_that_wants_another_login_is_named_as_what_fails(
    run: Run, image: Image, authority: trustme.CA, ca_file: Path, caplog: pytest.LogCaptureFixture,
    *, tls: bool,
) -> None:  # fmt: skip
    async with (
        served(Registry(image), server(authority) if tls else None) as url,
        proxied() as (_, place),
        run(upstreams=at(url, ca_file=ca_file, proxy=f"http://robot:wr0ng-word@{place}")) as mirror,
    ):
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.status == 503
        assert b"the proxy requires a valid login" in got.body
        assert "wr0ng-word" not in caplog.text + got.body.decode() + repr(mirror.daemon)


async def test_a_proxy_that_is_gone_is_an_upstream_that_cannot_be_reached(
    run: Run, image: Image
) -> None:
    async with proxied() as (_, place):
        pass
    async with (
        served(Registry(image)) as url,
        run(upstreams=at(url, proxy=f"http://{LOGIN}@{place}")) as mirror,
    ):
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.status == 503
        assert b"cannot reach" in got.body
        assert LOGIN.encode() not in got.body


@pytest.mark.parametrize(
    "text",
    ["proxy.example:3128", "socks5://a:1", "http://a:1/path", "http://s3cret@a b:1", "http://", 3],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(text: object) -> None:
    with pytest.raises(ConfigurationError, match=r"upstreams\.docker\.io\.proxy") as caught:
        load({"upstreams": at("https://a.io", proxy=text)})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_a_certificate_is_not_shown_to_a_proxy(tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "client.pem"
    keys = {"client_cert": file, "client_key": file}
    wanted = r"upstreams\.docker\.io.*client_cert would be shown to the proxy, too"
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        load({"upstreams": at("https://a.io", proxy=f"{scheme}://{LOGIN}@p.io:1", **keys)})
    assert LOGIN not in str(caught.value)
    load({"upstreams": at("https://a.io", proxy=f"http://{LOGIN}@p.io:1", **keys)})
    load({"upstreams": at("https://a.io", proxy=f"{scheme}://{LOGIN}@p.io:1")})


def test_a_proxys_login_is_not_shown() -> None:
    settings = load({"upstreams": at("https://a.io", proxy=f"http://{LOGIN}@p.io:1")})
    told = repr(settings) + repr(connection_settings(settings.upstreams["docker.io"]))
    assert "s3cret-word" not in told


# Bounds


async def test_connections_to_an_upstream_are_bounded_and_waiting_is_no_failure(
    run: Run,
) -> None:
    image = make_image("many", [70_000 + number for number in range(16)])
    registry = Registry(image)
    registry.gate.clear()
    async with (
        served(registry) as url,
        run(upstreams=at(url, max_connections=4), answer_timeout=0.4) as mirror,
    ):
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 200
        pulls = [asyncio.create_task(mirror.blob(REPOSITORY, blob.digest)) for blob in image.layers]
        await until(lambda: len(mirror.daemon.fetches) >= len(pulls))
        await asyncio.sleep(1)  # far longer than the timeout of an answer
        assert registry.running == 3
        other = await mirror.manifest(REPOSITORY, "other")  # small questions have connections apart
        assert other.status == 200
        registry.gate.set()
        bodies = [(await pull).body for pull in pulls]
    assert bodies == [blob.read() for blob in image.layers]
    assert registry.most == 3


async def test_an_upstreams_bytes_come_no_faster_than_they_may(
    hub: Hub, run: Run, image: Image
) -> None:
    upstream = at(hub.url, max_rate="1MB")
    async with run(upstreams=upstream) as mirror:
        began = time.monotonic()
        await asyncio.gather(*(mirror.blob(REPOSITORY, blob.digest) for blob in image.layers))
        assert time.monotonic() - began > 1.5  # 2.3 MB, but the last piece is not waited for
        await mirror.settled()
        for blob in image.layers:
            assert (await mirror.blob(REPOSITORY, blob.digest)).body == blob.read()


async def test_bodies_share_the_rate_by_the_piece() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    pace = BandwidthLimit(1000, lambda: now, sleep)
    read = [0, 0]

    async def body(number: int) -> None:
        while now < 100:
            await pace.wait()
            pace.spend(500)
            read[number] += 500

    await asyncio.gather(body(0), body(1))
    assert sum(read) == pytest.approx(100_000, rel=0.02)
    assert read[0] == pytest.approx(read[1], rel=0.1)
