"""TLS served by the daemon: whole bodies, a renewed certificate, and clients' certificates."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import ssl
import tempfile
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mirror.app.daemon import running
from mirror.app.reload import Applied
from mirror.settings import Loaded, load_all
from mirror.web.connections.certificate import Certificate, Pem
from tests.standin import Fault, Hub, Image, make_image
from tests.support.command import NOBODY, launched, serve_to_the_end, serving
from tests.support.mirror import Mirror, Run

MEMORY = Path("/dev/shm")
REPOSITORY = "library/nginx"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that signs the mirror's certificate."""
    return trustme.CA()


class Pair:
    """A certificate and its key as files."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "mirror.pem", folder / "mirror.key"

    def renew(self, authority: trustme.CA, name: str = "127.0.0.1") -> None:
        """Have a new certificate and key issued."""
        issued = authority.issue_cert(name, common_name=name)
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    @property
    def settings(self) -> dict[str, Path]:
        """The mirror's settings for the pair."""
        return {"tls_cert": self.cert, "tls_key": self.key}


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> Pair:
    """The mirror's certificate and key."""
    pair = Pair(tmp_path)
    pair.renew(authority)
    return pair


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def encrypted(mirror: Mirror, context: ssl.SSLContext) -> AsyncIterator[Mirror]:
    """The same mirror, asked over TLS."""
    connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield Mirror(mirror.daemon, session)


async def served(mirror: Mirror, context: ssl.SSLContext) -> dict[str, object]:
    """The mirror's certificate on a new connection."""
    host, port = mirror.daemon.address
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    certificate: dict[str, object] = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_a_pull_over_tls_is_whole_cold_and_warm(
    hub: Hub, run: Run, pair: Pair, authority: trustme.CA
) -> None:
    image = make_image(5, [70_000, 5_000_000])
    hub.add(image, REPOSITORY, "big")
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        assert mirror.url.startswith("https://")
        for _ in range(2):
            await mirror.pull(REPOSITORY, "big", image)
    assert [hub.bodies(blob.digest) for blob in image.blobs] == [1, 1, 1]


async def test_ranges_of_a_kept_blob_are_right_over_tls(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA
) -> None:
    layer = image.layers[1]
    data = layer.read()
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        for first, last in ((0, 0), (65_535, 65_536), (1_000_000, 1_999_999), (5, layer.size - 1)):
            got = await mirror.blob(REPOSITORY, layer.digest, Range=f"bytes={first}-{last}")
            assert (got.status, got.body) == (206, data[first : last + 1])


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no tmpfs")
async def test_a_file_system_that_does_not_report_its_cache_is_read_all_the_same(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        settings = {**pair.settings, "data_dir": folder}
        async with run(**settings) as plain, encrypted(plain, trusting(authority)) as mirror:
            for _ in range(2):
                await mirror.pull(REPOSITORY, "latest", image)


async def test_a_file_that_was_cut_behind_the_mirrors_back_completes_no_body(
    hub: Hub, run: Run, pair: Pair, authority: trustme.CA
) -> None:
    image = make_image(8, [30_000_000])
    hub.add(image, REPOSITORY, "big")
    layer = image.layers[0]
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        await mirror.pull(REPOSITORY, "big", image)
        path = mirror.folder.blob(layer.digest)
        async with mirror.request(f"/v2/{REPOSITORY}/blobs/{layer.digest}") as response:
            os.truncate(path, 1000)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_many_clients_at_once_each_get_all_of_it(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA
) -> None:
    layer = image.layers[1]
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        asked = (mirror.blob(REPOSITORY, layer.digest) for _ in range(20))
        assert all(got.body == layer.read() for got in await asyncio.gather(*asked))
    assert hub.bodies(layer.digest) == 1


async def test_a_new_certificate_is_shown_to_new_clients_and_no_client_is_cut(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA
) -> None:
    layer, context = image.layers[1], trusting(authority)
    gate = asyncio.Event()
    hub.faults.add(Fault(kind="blob", reference=layer.digest, stall_after=100_000, until=gate))
    async with run(**pair.settings) as plain, encrypted(plain, context) as mirror:
        assert mirror.daemon.certificate is not None
        first = await served(mirror, context)
        async with mirror.request(f"/v2/{REPOSITORY}/blobs/{layer.digest}") as response:
            pair.renew(authority)
            await mirror.daemon.certificate.renew()
            second = await served(mirror, context)
            gate.set()
            assert await response.read() == layer.read()
    assert first["serialNumber"] != second["serialNumber"]


async def test_a_changed_certificate_is_found_without_being_told(
    pair: Pair, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    certificate = Certificate(Pem(pair.cert, pair.key), every=0.01)
    watch = asyncio.create_task(certificate.run())
    pair.renew(authority)
    async with asyncio.timeout(5):
        while "is that of" not in caplog.text:
            await asyncio.to_thread(pair.cert.stat)
    watch.cancel()


async def test_no_handshake_fails_while_the_certificate_changes(
    run: Run, pair: Pair, authority: trustme.CA
) -> None:
    shown: set[object] = set()

    async def shake_hands() -> None:
        context = trusting(authority)
        while len(shown) < 40:
            shown.add((await served(mirror, context))["serialNumber"])

    async with run(**pair.settings) as mirror:
        assert mirror.daemon.certificate is not None
        shaking = [asyncio.create_task(shake_hands()) for _ in range(4)]
        while not all(task.done() for task in shaking):
            pair.renew(authority)
            await mirror.daemon.certificate.renew()
        await asyncio.gather(*shaking)


@pytest.mark.parametrize("broken", ["cert", "key", "gone"])
async def test_a_certificate_that_cannot_be_used_leaves_the_old_one_and_one_line(
    run: Run,
    pair: Pair,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    context = trusting(authority)
    async with run(**pair.settings) as mirror:
        assert mirror.daemon.certificate is not None
        first = await served(mirror, context)
        if broken == "gone":
            pair.cert.unlink()
        else:
            getattr(pair, broken).write_text("nothing of use")
        for _ in range(3):
            await mirror.daemon.certificate.renew()
        assert (await served(mirror, context))["serialNumber"] == first["serialNumber"]
        pair.renew(authority)
        await mirror.daemon.certificate.renew()
        assert (await served(mirror, context))["serialNumber"] != first["serialNumber"]
    said = [
        record.getMessage()
        for record in caplog.records
        if record.name == "mirror.web.connections.certificate"
    ]
    assert len(said) == 2
    assert said[0].startswith("the certificate was not renewed: tls_")


async def test_a_client_without_a_certificate_stays_out_where_one_is_demanded(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    clients, orphans = trustme.CA(), trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    settings = pair.settings | {"client_ca": tmp_path / "clients.pem"}
    async with run(**settings) as plain:
        for issuer in (None, orphans):
            context = trusting(authority)
            if issuer is not None:
                issuer.issue_cert("runner@ci", common_name="runner").configure_cert(context)
            async with encrypted(plain, context) as mirror:
                with pytest.raises(aiohttp.ClientError):
                    await mirror.manifest(REPOSITORY, "latest")
        context = trusting(authority)
        clients.issue_cert("runner@ci", common_name="runner").configure_cert(context)
        async with encrypted(plain, context) as mirror:
            assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    assert hub.count(kind="manifest", method="GET") == 1


async def test_whom_clients_must_be_signed_by_changes_without_a_restart(
    run: Run, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    before, after = trustme.CA(), trustme.CA()
    file = tmp_path / "clients.pem"
    before.cert_pem.write_to_path(file)
    async with run(**pair.settings, client_ca=file) as mirror:
        assert mirror.daemon.certificate is not None
        assert [await lets_in(mirror, authority, each) for each in (before, after)] == [True, False]
        after.cert_pem.write_to_path(file)
        await mirror.daemon.certificate.renew()
        assert [await lets_in(mirror, authority, each) for each in (before, after)] == [False, True]


@pytest.mark.parametrize(
    ("common_name", "identities", "name"),
    [
        ("runner", ["other.example", "other@example"], "runner"),
        (None, ["runner@ci", "runner.example", "other.example"], "runner.example"),
        (None, ["10.0.0.9", "runner@ci"], "runner@ci"),
    ],
)
async def test_a_certificate_names_its_client(
    run: Run,
    image: Image,
    pair: Pair,
    authority: trustme.CA,
    tmp_path: Path,
    common_name: str | None,
    identities: list[str],
    name: str,
) -> None:
    """A common name does so, or else its modern equivalent; the client's own list holds then."""
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    settings = {**pair.settings, "client_ca": tmp_path / "clients.pem"}
    context = trusting(authority)
    authority.issue_cert(*identities, common_name=common_name).configure_cert(context)
    async with (
        run(**settings, clients={name: {"allow": ["other/*"]}}) as plain,
        encrypted(plain, context) as mirror,
    ):
        got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.status, f"{name} may not read" in got.body.decode()) == (403, True)
        assert (await mirror.ask("/v2/")).status == 200


@pytest.mark.parametrize(
    ("common_name", "identity", "told"),
    [
        ("10.0.0.1", "runner@ci", "it names '10.0.0.1'"),
        ("a runner", "runner@ci", "it names 'a runner'"),
        (None, "*.example", "it names '*.example'"),
        (None, "10.0.0.9", "it has no name"),
    ],
)
async def test_a_certificate_that_names_no_client_is_nobodys(
    run: Run,
    image: Image,
    pair: Pair,
    authority: trustme.CA,
    tmp_path: Path,
    common_name: str | None,
    identity: str,
    told: str,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    context = trusting(authority)
    authority.issue_cert(identity, common_name=common_name).configure_cert(context)
    async with (
        run(**pair.settings, client_ca=tmp_path / "clients.pem") as plain,
        encrypted(plain, context) as mirror,
    ):
        for path in ("/v2/", f"/v2/{REPOSITORY}/manifests/latest"):
            got = await mirror.ask(path)
            assert (got.status, told in got.body.decode()) == (403, True)


async def test_a_share_may_be_a_certificates(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    settings = {**pair.settings, "client_ca": tmp_path / "clients.pem", "shares": {"runner": 1}}
    upstream = {"url": hub.url, "pull_limit": 100}
    hub.add(make_image("another", [1000]), REPOSITORY, "next")
    async with run(**settings, upstreams={"docker.io": upstream}) as plain:
        for name, statuses in {"runner": [200, 429], "other": [200, 200]}.items():
            context = trusting(authority)
            authority.issue_cert("host.example", common_name=name).configure_cert(context)
            async with encrypted(plain, context) as mirror:
                got = [await mirror.manifest(REPOSITORY, tag) for tag in ("latest", "next")]
                assert [each.status for each in got] == statuses


async def lets_in(mirror: Mirror, authority: trustme.CA, issuer: trustme.CA) -> bool:
    """Whether a client with a certificate of this issuer is served."""
    context = trusting(authority)
    issuer.issue_cert("runner@ci", common_name="runner").configure_cert(context)
    async with encrypted(mirror, context) as client:
        try:
            return (await client.ask("/v2/")).status == 200
        except aiohttp.ClientError:
            return False


async def test_old_tls_is_refused(
    run: Run, pair: Pair, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """The version is the cause, not a lack of ciphers: OpenSSL's own defaults may allow them."""
    caplog.set_level(logging.INFO)
    context = trusting(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # without this the client would not even try
    async with run(**pair.settings) as mirror:
        with pytest.raises(OSError):  # noqa: PT011 - the kind of refusal is OpenSSL's
            await served(mirror, context)
        await served(mirror, trusting(authority))
    assert "no TLS with 127.0.0.1: unsupported protocol" in caplog.text


@pytest.mark.parametrize(
    ("offered", "taken"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
async def test_http_1_1_is_spoken_and_nothing_else(
    run: Run, pair: Pair, authority: trustme.CA, offered: list[str], taken: str | None
) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(offered)
    async with run(**pair.settings) as mirror:
        host, port = mirror.daemon.address
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == taken
        writer.close()


@pytest.mark.parametrize(
    "request_line",
    ["GET /v2/ HTTP/1.1", "HEAD /v2/ HTTP/1.1", "POST /v2/ HTTP/1.0", "CONNECT a:443 HTTP/1.1"],
)
async def test_plain_http_sent_to_tls_is_told_so_by_a_400_and_one_line(
    run: Run,
    pair: Pair,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
    request_line: str,
) -> None:
    caplog.set_level(logging.INFO)
    async with run(**pair.settings) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write(f"{request_line}\r\nHost: mirror\r\n\r\n".encode())
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        async with encrypted(mirror, trusting(authority)) as client:
            assert "mirror_connections 1.0\n" in (await client.ask("/metrics")).body.decode()
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close" in head
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    [error] = json.loads(body)["errors"]
    assert "a port that speaks TLS: use https://" in error["message"]
    said = [
        record for record in caplog.records if record.name == "mirror.web.connections.tls_handshake"
    ]
    assert [record.getMessage() for record in said] == [
        "plain HTTP from 127.0.0.1, where TLS is served: answered with 400"
    ]
    assert not any(record.exc_info for record in caplog.records)


async def test_a_long_plain_request_gets_its_answer_and_no_reset(run: Run, pair: Pair) -> None:
    async with run(**pair.settings) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        padding = "x" * 100_000
        writer.write(f"GET / HTTP/1.1\r\nAuthorization: Bearer {padding}\r\n\r\n".encode())
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_bytes_that_are_neither_tls_nor_http_end_the_connection(
    run: Run, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with run(**pair.settings) as mirror:
        reader, writer = await asyncio.open_connection(*mirror.daemon.address)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        async with asyncio.timeout(5):
            assert not (await reader.read()).startswith(b"HTTP")
        writer.close()
    assert "no TLS with 127.0.0.1: " in caplog.text


async def test_without_a_descriptor_to_spare_a_handshake_ends_with_one_line(
    run: Run,
    pair: Pair,
    authority: trustme.CA,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)

    def none_left(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with run(**pair.settings) as mirror:
        with monkeypatch.context() as patch:
            patch.setattr(TransportSocket, "dup", none_left)
            reader, writer = await asyncio.open_connection(*mirror.daemon.address)
            async with asyncio.timeout(5):
                assert await ended(reader)
            writer.close()
        await served(mirror, trusting(authority))
    assert "no TLS with 127.0.0.1: Too many open files" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


async def test_connections_that_never_shake_hands_are_bounded_and_cut(
    run: Run, pair: Pair, authority: trustme.CA
) -> None:
    """Such connections count as idle: the longest idle one makes room for a real client."""
    context = trusting(authority)
    async with (
        run(max_connections=10, **pair.settings) as plain,
        encrypted(plain, context) as mirror,
    ):
        silent = [await asyncio.open_connection(*plain.daemon.address) for _ in range(15)]
        told = (await mirror.ask("/metrics")).body.decode()
        assert "mirror_connections 10.0\n" in told
        assert "mirror_connections_shed_total 6.0\n" in told
        async with asyncio.timeout(5):
            for reader, _ in silent[:6]:
                assert await ended(reader)
        assert not any(reader.at_eof() for reader, _ in silent[6:])
        async with asyncio.timeout(15):  # the rest are cut after ten seconds
            for reader, _ in silent[6:]:
                assert await ended(reader)
        for _, writer in silent:
            writer.close()


async def test_whoever_holds_most_gives_one_up_over_tls_too(
    hub: Hub, run: Run, pair: Pair, authority: trustme.CA
) -> None:
    image, context = make_image(9, [12_000_000]), trusting(authority)
    hub.add(image, REPOSITORY, "big")
    said = f"GET /v2/{REPOSITORY}/blobs/{image.layers[0].digest} HTTP/1.1\r\nHost: mirror\r\n\r\n"
    async with run(max_connections=3, **pair.settings) as mirror:
        taken, (host, port) = [], mirror.daemon.address
        for _ in range(3):
            taken.append(await asyncio.open_connection(host, port, ssl=context))
            taken[-1][1].write(said.encode())
            assert await taken[-1][0].readline() == b"HTTP/1.1 200 OK\r\n"
        _, late = await asyncio.open_connection(
            host, port, ssl=context, local_addr=("127.0.0.9", 0)
        )
        late.close()
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert len(await taken[-1][0].read()) < image.layers[0].size
            assert len(await taken[0][0].readexactly(12_000_000)) == 12_000_000
        for _, writer in taken:
            writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection that carries no data."""
    with suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


async def test_stopping_does_not_wait_for_a_handshake(run: Run, pair: Pair) -> None:
    async with asyncio.timeout(5), run(**pair.settings) as mirror:
        _, writer = await asyncio.open_connection(*mirror.daemon.address)
    writer.close()


async def test_a_slow_client_over_tls_pins_little_and_gets_all(
    hub: Hub, run: Run, pair: Pair, authority: trustme.CA
) -> None:
    image = make_image(7, [8_000_000])
    hub.add(image, REPOSITORY, "big")
    layer = image.layers[0]
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        await mirror.pull(REPOSITORY, "big", image)
        async with mirror.request(f"/v2/{REPOSITORY}/blobs/{layer.digest}") as slow:
            got = await slow.content.readexactly(1000)
            assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()
            assert got + await slow.read() == layer.read()


async def test_sighup_has_the_certificate_read_again(
    hub: Hub, image: Image, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    options = ("--tls-cert", pair.cert, "--tls-key", pair.key)
    upstream = ("--upstream", f"docker.io={hub.url}")
    async with serving(tmp_path / "data", *options, *upstream) as mirror:
        url = await mirror.address()
        assert url.startswith("https://127.0.0.1:")
        pair.renew(authority)
        mirror.send(signal.SIGHUP)
        await mirror.says(f"the certificate is that of {pair.cert} now")
        mirror.send(signal.SIGTERM)
        assert (await mirror.ended()).code == 0


def _locked(issued: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"word")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


async def _refused(*options: str | Path) -> str:
    ended = await serve_to_the_end("--upstream", NOBODY, *options)
    assert ended.code == 2
    [line] = ended.err.splitlines()
    return line


async def test_a_pair_that_cannot_be_used_is_told_of_in_one_line(
    pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    other = authority.issue_cert("other")
    (tmp_path / "other.key").write_bytes(other.private_key_pem.bytes())
    (tmp_path / "locked.key").write_bytes(_locked(other))
    (tmp_path / "nothing").write_text("nothing")
    cert, key = ("--tls-cert", pair.cert), ("--tls-key", pair.key)
    assert "tls_cert and tls_key go together" in await _refused(*cert)
    assert "client_ca needs tls_cert" in await _refused("--client-ca", pair.cert)
    missing = tmp_path / "missing"
    assert f"tls_cert is '{missing}': cannot be read" in await _refused("--tls-cert", missing, *key)
    assert f"tls_key is '{missing}': cannot be read" in await _refused(*cert, "--tls-key", missing)
    assert "with its chain in PEM" in await _refused("--tls-cert", tmp_path / "nothing", *key)
    assert "is not the key of" in await _refused(*cert, "--tls-key", tmp_path / "other.key")
    assert "without a password" in await _refused(*cert, "--tls-key", tmp_path / "locked.key")
    told = await _refused(*cert, *key, "--client-ca", tmp_path / "nothing")
    assert "client_ca is" in told
    assert "certificates in PEM are expected" in told


async def test_health_is_told_over_tls(run: Run, pair: Pair, authority: trustme.CA) -> None:
    async with run(**pair.settings) as plain, encrypted(plain, trusting(authority)) as mirror:
        for path in ("/healthz", "/readyz", "/v2/"):
            assert (await mirror.ask(path)).status == 200


async def test_a_reload_shows_another_certificate_and_cuts_no_client(
    hub: Hub, run: Run, image: Image, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other, layer, go = Pair(tmp_path / "other"), image.layers[-1], asyncio.Event()
    other.renew(authority)
    shown = [pair]

    def read() -> Loaded:
        keys = {"listen": "127.0.0.1:0", "data_dir": tmp_path / "data", "limit_check": 0}
        return load_all(
            {**keys, "upstreams": {"docker.io": {"url": hub.url}}, **shown[-1].settings}
        )

    hub.faults.add(Fault(kind="blob", reference=layer.digest, stall_after=100_000, until=go))
    async with (
        running(read().checked(), read=read) as daemon,
        aiohttp.ClientSession() as session,
        encrypted(Mirror(daemon, session), trusting(authority)) as mirror,
        mirror.request(f"/v2/{REPOSITORY}/blobs/{layer.digest}") as response,
    ):
        begun = await response.content.readexactly(1000)
        first = await served(mirror, trusting(authority))
        shown.append(other)
        assert await daemon.reloader.reload() == Applied(("tls_cert", "tls_key"), ())
        second = await served(mirror, trusting(authority))
        assert second["serialNumber"] != first["serialNumber"]
        other.renew(authority)
        assert await daemon.reloader.reload() == Applied(("tls_cert (its files)",), ())
        assert (await served(mirror, trusting(authority)))["serialNumber"] != second["serialNumber"]
        go.set()
        assert begun + await response.read() == layer.read()


async def test_a_certificate_that_does_not_fit_its_key_has_nothing_reloaded(
    hub: Hub, pair: Pair, authority: trustme.CA, tmp_path: Path
) -> None:
    data, file, stranger = tmp_path / "data", tmp_path / "mirror.toml", tmp_path / "other.key"
    stranger.write_bytes(authority.issue_cert("other").private_key_pem.bytes())
    base = f'data_dir = "{data}"\ntls_cert = "{pair.cert}"\n'
    file.write_text(f'{base}tls_key = "{pair.key}"\n')
    upstream = ("--upstream", f"docker.io={hub.url}")
    async with serving(data, "--config", file, *upstream) as mirror:
        await mirror.address(within=30)
        file.write_text(f'{base}tls_key = "{stranger}"\nlog_level = "debug"\n')
        async with launched("reload", "--config", file) as command:
            refused = await command.ended(within=30)
        words = f"tls_key is '{stranger}': is not the key of the certificate in tls_cert"
        assert refused == (1, "", f"mirror: {words}\n")
        assert f"nothing was reloaded: {words}" in mirror.err
        file.write_text(f'{base}tls_key = "{pair.key}"\n')
        async with launched("reload", "--config", file) as command:
            assert (await command.ended(within=30)).out == "nothing has changed\n"
