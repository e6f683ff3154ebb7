"""No header of an upstream costs the event loop more than an instant."""

from __future__ import annotations

import ast
import string
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import pytest
from yarl import URL

import mirror
from mirror.oci import media, paging, ranges
from mirror.oci.digest import Digest
from mirror.oci.errors import RegistryError
from mirror.upstream import address_policy, telemetry
from mirror.upstream.address_policy import follow
from mirror.upstream.auth import challenge, realm_policy
from tests.attacks.raw import NAME, Raw, answer, speaking
from tests.attacks.steps import MOST, steps
from tests.support.mirror import Run
from tests.support.pace import at_most

BODY = b'{"schemaVersion":2,"layers":[]}'
TYPE = b"Content-Type: " + media.OCI_MANIFEST.encode()
LONG = 300_000  # bytes; the wire takes as many of a header
ALL_LONG = 32_000  # bytes of each header of many: the wire takes a mebibyte in all
OWN = URL("https://registry.example/v2/")
NAMES = (
    *(b"Set-Cookie", b"Link", b"Docker-Content-Digest", b"Content-Encoding", b"Date"),
    *(b"WWW-Authenticate", b"Retry-After", b"RateLimit-Limit", b"RateLimit-Remaining"),
    *(b"Docker-RateLimit-Source", b"Content-Range", b"Content-Disposition", b"Keep-Alive"),
)
SIGNS = [each.encode() for each in string.punctuation + " \tak0"] + [b"\xff", "é".encode()]
PAIRS = [b";;", b"; ", b'";', b"=;", b',"', b"=,", b"<>", b"a=", b'="', b'\\"', b"k-", b"%2"]


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """An upstream that says any bytes."""
    async with speaking(Raw()) as raw:
        yield raw


def filled(sign: bytes, start: bytes = b"", size: int = ALL_LONG) -> bytes:
    """Write a header's value of a sign or pair, of this size."""
    return (start + sign * size)[:size]


async def test_a_token_servers_content_type_holds_nobody_up(run: Run, raw: Raw) -> None:
    """Ten seconds of one request, by aiohttp's own reading."""
    realm = f'WWW-Authenticate: Bearer realm="{raw.url}/token"'.encode()
    raw.answers["/manifests/"] = answer(b"", realm, status=b"401 Unauthorized")
    told = b"Content-Type: " + filled(b";", b"text/html", LONG - 20)
    raw.answers["/token"] = answer(b"", told, status=b"403 Forbidden")
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            assert (await mirror.manifest(NAME, "latest")).status in (403, 502, 503)
    assert any(b"/token" in head for head in raw.heads)
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize(
    "status", [b"200 OK", b"307 Elsewhere", b"401 Unauthorized", b"404 No", b"429 Slow"]
)
async def test_no_header_of_a_single_sign_or_pair_holds_anybody_up(
    run: Run, raw: Raw, status: bytes
) -> None:
    """All headers that anything reads, each as long as it may be, in one answer."""
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            for sign in SIGNS + PAIRS:
                lines = [name + b": " + filled(sign) for name in NAMES]
                lines += [b"Set-Cookie: " + filled(sign, b"a=b;")] * 8
                lines += [b"WWW-Authenticate: Bearer " + filled(sign)] * 8
                lines += [b"Content-Type: " + filled(sign, b"text/html;")]
                lines += [b"Location: " + filled(sign, b"https://xn--")]
                raw.answers["/"] = answer(BODY, *lines, status=status)
                for path in ("manifests/latest", "tags/list", f"blobs/{Digest.of(sign)}"):
                    await mirror.ask(f"/v2/{NAME}/{path}")
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize("name", [*NAMES, b"Location", b"Content-Type"])
async def test_no_header_as_long_as_it_may_be_holds_anybody_up(
    run: Run, raw: Raw, name: bytes
) -> None:
    size = LONG - len(name)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            for status in (b"200 OK", b"307 Elsewhere", b"401 Unauthorized", b"429 Slow"):
                for sign in (b";", b'"', b"/", b"a,", "é".encode()):
                    line = name + b": " + filled(sign, size=size)
                    raw.answers["/"] = answer(BODY, line, status=status)
                    await mirror.manifest(NAME, "latest")
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-%d: a" % number for number in range(900)],
        [b"X: " + b"a" * 290_000],
        [b"X-%d: " % number + b"a" * 60_000 for number in range(16)],
        [b"Content-Length: %d" % len(BODY)],
        [b"CONTENT-LENGTH:%d \t" % len(BODY), b"X: a", b"content-length: %d" % len(BODY)],
    ],
    ids=["many", "long", "a megabyte", "a length twice", "three times"],
)
async def test_what_plain_clients_take_of_a_head_is_taken(
    run: Run, raw: Raw, lines: list[bytes]
) -> None:
    raw.answers["/"] = answer(BODY, TYPE, *lines)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            got = await mirror.manifest(NAME, "latest")
    assert (got.status, got.body) == (200, BODY)
    assert longest.seconds < MOST, longest.what


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-%d: a" % number for number in range(1001)],
        [b"a:"] * 400_000,
        [b"X: " + b"a" * 300_001],
        [b"X-%d: " % number + b"a" * 200_000 for number in range(7)],
        [b"X-%d: " % number + b"a" * 200_000 for number in range(30)],
        [b"Content-Length: %d" % (len(BODY) - 1)],
    ],
    ids=["many", "ever more", "long", "more than a megabyte", "megabytes", "two lengths"],
)
async def test_a_head_without_bounds_is_refused_and_holds_nobody_up(
    run: Run, raw: Raw, lines: list[bytes]
) -> None:
    raw.answers["/"] = answer(BODY, TYPE, *lines)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        with steps() as longest:
            assert (await mirror.manifest(NAME, "latest")).status == 502
    assert longest.seconds < MOST, longest.what


READERS: dict[str, Callable[[str], object]] = {
    "media type": media.bare,
    "digest": Digest.from_header,
    "range": ranges.parse_content_range,
    "link": lambda text: paging.following([text[: 16 * 1024]]),
    "link's query": lambda text: paging.following([f"<?{text[: 16 * 1024]}>; rel=next"]),
    "link's rest": lambda text: paging.following([f"<?a=b>{text[: 16 * 1024]}"]),
    "challenge": lambda text: challenge.parse([text, text[:4096]]),
    "challenge's realm": lambda text: challenge.parse([f'Bearer realm="{text[:4000]}']),
    "location": lambda text: address_policy.follow(OWN, text),
    "location's host": lambda text: address_policy.follow(OWN, f"https://{text}/a"),
    "location's IDN": lambda text: address_policy.follow(OWN, f"https://xn--{text}/a"),
    "realm": realm_policy.is_readable,
    "realm's host": lambda text: realm_policy.is_readable(f"https://{text}/token"),
    "realm's short host": lambda text: realm_policy.is_readable(f"https://{text[:290]}/token"),
    "realm's IDN": lambda text: realm_policy.is_readable(f"https://xn--{text}/token"),
    "limit": lambda text: telemetry.read_limit(
        dict.fromkeys(("ratelimit-limit", "ratelimit-remaining"), text), windowless=True
    ),
    "wait": lambda text: telemetry.read_retry_after({"Retry-After": text, "Date": text}),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_reader_of_a_header_takes_linear_time(reader: Callable[[str], object]) -> None:
    signs = [*string.punctuation, *" \tak0", "\udcff", "é", "中"]
    for text in (*signs, *map("".join, permutations('"<>;,=\\%&./-^~ ak0é', 2))):
        long = (text * LONG)[:LONG]
        with at_most(MOST, text), suppress(RegistryError):
            reader(long)


def test_headers_are_read_by_our_own_readers_only() -> None:
    """What aiohttp parses on access takes quadratic time, or has no bound: it is used nowhere."""
    banned = {"content_type", "charset", "links", "cookies", "content_disposition", "get_encoding"}
    folder = Path(mirror.__file__).parent
    found = [
        f"{path.relative_to(folder)}:{node.lineno} {node.attr}"
        for path in folder.rglob("*.py")
        for node, awaited in attributes(ast.parse(path.read_text()))
        if node.attr in banned or (awaited and node.attr in ("json", "text"))
    ]
    assert not found


def attributes(tree: ast.Module) -> Iterable[tuple[ast.Attribute, bool]]:
    """Return the attributes in a module which uses aiohttp, and whether each is awaited."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    if not any(name.split(".")[0] == "aiohttp" for name in names):
        return []
    calls = [node.value for node in ast.walk(tree) if isinstance(node, ast.Await)]
    awaited = [call.func for call in calls if isinstance(call, ast.Call)]
    return [(node, node in awaited) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]


@pytest.mark.parametrize("user", ["u:p@", "u@", ":p@", "%75:%70@"])
def test_a_login_in_a_location_is_left_out(user: str) -> None:
    """An upstream does not choose the mirror's account elsewhere."""
    target = follow(OWN, f"https://{user}cdn.example/blob?sig=%2f+a")
    assert str(target) == "https://cdn.example/blob?sig=%2f+a"


async def test_a_login_in_a_location_is_sent_to_nobody(run: Run, raw: Raw) -> None:
    """The blob is served all the same."""
    body = b"x" * 1000
    location = b"Location: " + raw.url.replace("//", "//u:p@").encode() + b"/elsewhere"
    raw.answers["/blobs/"] = answer(b"", location, status=b"307 Elsewhere")
    raw.answers["/elsewhere"] = answer(body)
    async with run(upstreams={"docker.io": {"url": raw.url}}) as mirror:
        assert (await mirror.blob(NAME, str(Digest.of(body)))).body == body
    assert not any(b"\nauthorization:" in head.lower() for head in raw.heads)
