"""Any text: the grammars' text is taken, all other text is refused, and sizes add up."""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mirror.oci import ranges
from mirror.oci.digest import Digest
from mirror.oci.errors import RangeInvalid, RangeMalformed, RegistryError
from mirror.oci.image_name import ImageName, parse_target
from mirror.oci.names import HUB, HUB_ALIASES, MAX_NAME, Repository, Tag, parse_reference
from mirror.oci.ranges import Span
from mirror.settings import parse_size
from mirror.storage.catalog import Catalog, charged
from mirror.storage.entry import Entry
from mirror.upstream.auth.challenge import Challenge, parse
from mirror.web.router import (
    ApiRoot,
    CatalogPath,
    ManifestPath,
    OwnPath,
    Router,
)

# The grammars, letter by letter, beside the mirror's own patterns.

_ALNUM = string.ascii_lowercase + string.digits
_COMPONENT = st.builds(
    lambda first, rest: first + "".join(sep + word for sep, word in rest),
    st.text(_ALNUM, min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from([".", "_", "__", "-", "--", "---"]),
            st.text(_ALNUM, min_size=1, max_size=8),
        ),
        max_size=3,
    ),
)
NAMES = (
    st.lists(_COMPONENT, min_size=1, max_size=6)
    .map("/".join)
    .filter(lambda name: len(name) <= MAX_NAME)
)
_WORD = string.ascii_letters + string.digits + "_"
TAGS = st.builds(str.__add__, st.sampled_from(sorted(_WORD)), st.text(_WORD + ".-", max_size=127))
_HEX = "0123456789abcdef"
DIGESTS = st.one_of(
    st.text(_HEX, min_size=64, max_size=64).map("sha256:".__add__),
    st.text(_HEX, min_size=128, max_size=128).map("sha512:".__add__),
)
# Nearly good text: one character of good text is removed, added or replaced.
_ODD = st.one_of(st.sampled_from("\n\r\0 /:.@_-%A\xe9\u0661"), st.characters())


@st.composite
def spoilt(draw: st.DrawFn, good: SearchStrategy[str]) -> str:
    """Good text with one odd character, or with one missing."""
    text = draw(good)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(_ODD | st.just("")) + text[at + draw(st.integers(0, 1)) :]


def any_text(good: SearchStrategy[str]) -> SearchStrategy[str]:
    """Good text, nearly good text, and any other."""
    return good | spoilt(good) | st.text()


def is_name(text: str) -> bool:
    """Say the same as distribution-spec's pattern of <name>, without a pattern."""
    words = [word for part in text.split("/") for word in _words(part)]
    return 0 < len(text) <= MAX_NAME and all(word and set(word) <= set(_ALNUM) for word in words)


def _words(part: str) -> list[str]:
    """Split a component at its separators: a dot, one or two underscores, any number of dashes."""
    words, at = [""], 0
    while at < len(part):
        run = len(part[at:]) - len(part[at:].lstrip(part[at]))
        most = {".": 1, "_": 2, "-": run}.get(part[at], 0)
        if most:
            words += [""] if run <= most else ["", ""]
        else:
            words[-1] += part[at : at + run]
        at += run
    return words


def is_tag(text: str) -> bool:
    """Say the same as distribution-spec's pattern of <tag>, without a pattern."""
    allowed = set(_WORD) | set(".-")
    return 0 < len(text) <= 128 and set(text) <= allowed and text[0] not in ".-"


def is_digest(text: str) -> bool:
    """Whether text is a digest of a registered algorithm (image-spec, descriptor.md)."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == {"sha256": 64, "sha512": 128}.get(algorithm) and set(encoded) <= set(
        _HEX
    )


def taken(read: Callable[[str], object], text: str) -> bool:
    """Whether text is read; otherwise, the error is fit to be sent to a client."""
    error = refused(read, text)
    if error is not None:
        assert 400 <= error.status < 500
        assert len(error.body()) < 4096
    return error is None


def refused(read: Callable[[str], object], text: str) -> RegistryError | None:
    """Return the error with which text is refused, if any."""
    try:
        read(text)
    except RegistryError as error:
        return error
    return None


@given(any_text(NAMES))
@example("a" * 255)
@example("a" * 256)
@example("a/" * 127 + "a\n")
@example("a___b")
@example("a_-b")
def test_just_the_names_of_the_grammar_are_repositories(text: str) -> None:
    assert taken(lambda text: Repository.parse(HUB, text), text) == is_name(text)


@given(any_text(TAGS))
@example("a" * 129)
def test_just_the_tags_of_the_grammar_are_tags(text: str) -> None:
    assert taken(Tag.parse, text) == is_tag(text)


@given(any_text(DIGESTS) | DIGESTS.map(str.upper))
@example("sha256:" + "A" * 64)
def test_just_a_registered_digest_is_one(text: str) -> None:
    assert taken(Digest.parse, text) == is_digest(text)


@given(any_text(TAGS | DIGESTS))
def test_a_reference_is_a_digest_or_a_tag_and_keeps_its_text(text: str) -> None:
    assert taken(parse_reference, text) == (is_tag(text) or is_digest(text))
    with contextlib.suppress(RegistryError):
        found = parse_reference(text)
        assert found == text
        assert isinstance(found, Digest) == is_digest(text)


@given(st.binary(), st.sampled_from(["sha256", "sha512"]), st.integers(0, 1 << 16))
def test_a_digest_proves_its_content_and_nothing_close_to_it(
    data: bytes, algorithm: str, at: int
) -> None:
    digest = Digest.of(data, algorithm)
    assert Digest.parse(digest) == digest == f"{digest.algorithm}:{digest.hex}"
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.hex
    assert digest.proves(data)
    assert not digest.proves(data + b"\0")
    if data:
        at %= len(data)
        assert not digest.proves(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


# Names from an operator

_HOSTS = st.sampled_from([HUB, *HUB_ALIASES, "ghcr.io", "localhost", "localhost:5000", "a.b:1"])
_TARGETS = st.one_of(
    DIGESTS,
    NAMES,
    st.builds("{}:{}".format, NAMES, TAGS),
    st.builds("{}/{}:{}".format, _HOSTS, NAMES, TAGS),
    st.builds("{}/{}@{}".format, _HOSTS, NAMES, DIGESTS),
)


@given(any_text(_TARGETS))
def test_an_operators_name_is_refused_or_reads_the_same_again(text: str) -> None:
    if not taken(parse_target, text):
        return
    target = parse_target(text)
    assert parse_target(str(target)) == target
    repository = target.repository if isinstance(target, ImageName) else target
    if isinstance(repository, Repository):
        assert is_name(repository.name)
        assert repository.upstream not in HUB_ALIASES


@given(_HOSTS, NAMES, TAGS | DIGESTS)
def test_an_image_is_found_by_its_full_name(host: str, name: str, reference: str) -> None:
    assume(len(name) < MAX_NAME - len("library/"))
    target = parse_target(f"{host}/{name}{'@' if ':' in reference else ':'}{reference}")
    upstream = HUB_ALIASES.get(host, host)
    full = f"library/{name}" if upstream == HUB and "/" not in name else name
    assert target == ImageName(Repository(upstream, full), parse_reference(reference))


# A client's request

_UPSTREAMS = (HUB, "ghcr.io", "quay.example:5000", "localhost", "[::1]:5000", "plain")
_MEANT = {"ghcr.mirror": "ghcr.io", "mirror:5001": "plain", "10.0.0.9": "quay.example:5000"}
_ROUTER = Router(_UPSTREAMS, hosts=_MEANT)
_QUERY = st.lists(
    st.tuples(st.sampled_from(["n", "last", "ns", "artifactType", "x"]), st.text(max_size=8)),
    max_size=3,
).map(lambda fields: "?" + "&".join(f"{name}={value}" for name, value in fields))
_PATHS = st.builds(
    "/v2/{}/{}{}".format,
    NAMES,
    st.one_of(
        st.builds("manifests/{}".format, TAGS | DIGESTS),
        st.builds("blobs/{}".format, DIGESTS),
        st.builds("referrers/{}".format, DIGESTS),
        st.just("tags/list"),
    ),
    st.just("") | _QUERY,
)


_BASED = st.builds("/{}{}".format, st.sampled_from([*_UPSTREAMS, "gcr.io"]), _PATHS)
_TARGETS_OF_ALL_KINDS = st.one_of(
    any_text(_PATHS),
    any_text(_BASED),
    st.text().map("/v2/".__add__),
    st.text().map("http://".__add__),
)


@given(_TARGETS_OF_ALL_KINDS, any_text(st.sampled_from([*_MEANT, "mirror"])))
def test_any_request_target_is_read_or_refused(text: str, host: str) -> None:
    taken(lambda text: _ROUTER.read(text, host), text)
    with contextlib.suppress(RegistryError):
        route = _ROUTER.read(text, host)
        assert route == _ROUTER.read(text, host) == Router(_UPSTREAMS, HUB, _MEANT).read(text, host)
        if isinstance(route, CatalogPath):
            assert {route.own, route.upstream} - {""} <= set(_UPSTREAMS)
        elif not isinstance(route, OwnPath | ApiRoot):
            assert route.repository.upstream in _UPSTREAMS
        assert route.namespace.isascii()


@given(_TARGETS_OF_ALL_KINDS, st.text(), st.text())
def test_no_host_means_anything_unless_it_is_configured(text: str, one: str, other: str) -> None:
    router, hosted = Router(_UPSTREAMS), Router(_UPSTREAMS, hosts={"m": "ghcr.io"})
    assume("m" not in one.lower() and "m" not in other.lower() and "://m" not in text.lower())
    found = [
        _read_or_refused(each, text, host) for each in (router, hosted) for host in (one, other)
    ]
    assert all(each == found[0] for each in found)


def _read_or_refused(router: Router, text: str, host: str) -> object:
    try:
        return router.read(text, host)
    except RegistryError as error:
        return error.body()


_UPSTREAM = st.sampled_from([*_UPSTREAMS, *HUB_ALIASES])
_ELSEWHERE = st.sampled_from(["", *_UPSTREAMS])


def _meant(name: str) -> str:
    return HUB_ALIASES.get(name, name)


@given(_UPSTREAM, NAMES, TAGS | DIGESTS, st.sampled_from(["", *_MEANT]), _ELSEWHERE)
def test_an_upstream_is_found_by_any_form_of_address(
    upstream: str, name: str, reference: str, host: str, other: str
) -> None:
    """`ns` beats the path, and the path beats the host; the rest is the upstream's own name."""
    assume(len(name) < MAX_NAME - len("library/"))
    full = f"library/{name}" if _meant(upstream) == HUB and "/" not in name else name
    tail = f"{name}/manifests/{reference}"
    base = f"/{other}" if other else ""
    for target in (
        f"{base}/v2/{tail}?ns={upstream}",
        f"{base}/v2/{tail}?x=1&ns={upstream.replace(':', '%3a').upper()}",
        f"/{upstream}/v2/{tail}",
        f"/v2/{upstream}/{tail}",
        f"http://mirror/v2/{upstream}/{tail}",
    ):
        assume(not (name.startswith("localhost/") and upstream == "localhost"))  # taken off
        route = _ROUTER.read(target, host)
        assert isinstance(route, ManifestPath), target
        assert route.repository == Repository(_meant(upstream), full)
        assert route.reference == reference


@given(NAMES, TAGS, st.sampled_from(["", "mirror", *_MEANT]))
def test_without_a_name_the_host_decides_the_upstream_or_the_default(
    name: str, tag: str, host: str
) -> None:
    first, slash, _ = name.partition("/")
    assume(len(name) < MAX_NAME - len("library/"))
    upstream = _MEANT.get(host, HUB)
    target = f"/v2/{name}/manifests/{tag}"
    if slash and (first in _UPSTREAMS or "." in first):
        error = refused(lambda target: _ROUTER.read(target, host), target)
        assert first in _UPSTREAMS or (error and error.code == "NAME_UNKNOWN")
        return
    route = _ROUTER.read(target, host)
    full = f"library/{name}" if upstream == HUB and not slash else name
    assert isinstance(route, ManifestPath)
    assert route.repository == Repository(upstream, full)


@given(any_text(st.sampled_from([*_UPSTREAMS, *HUB_ALIASES, "gcr.io", "10.0.0.1:80"])), _PATHS)
def test_no_other_upstream_is_ever_meant(name: str, path: str) -> None:
    known = name.isascii() and _meant(name.lower()) in _UPSTREAMS
    assume(name and "ns=" not in path and taken(_ROUTER.read, path))
    mark = "&" if "?" in path else "?"
    error = refused(_ROUTER.read, f"{path}{mark}ns={quote(name, safe='', errors='surrogatepass')}")
    assert known == (error is None)
    assert known or (error and error.code == "NAME_UNKNOWN")


# Challenges

_TOKEN = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1, max_size=12)
_QUOTED = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
_SPACE = st.sampled_from(["", " ", "\t", "  "])
_TOKEN68 = st.from_regex(re.compile(r"[A-Za-z0-9._~+/-]{1,16}={0,2}", re.ASCII), fullmatch=True)


@st.composite
def _parameter(draw: st.DrawFn) -> tuple[str, str, str]:
    """One parameter as sent, its name, and its meaning."""
    name, value = draw(_TOKEN | st.sampled_from(["realm", "REALM"])), draw(_QUOTED | _TOKEN)
    escaped = "".join(f"\\{c}" if c in '"\\' or draw(st.integers(0, 9)) == 0 else c for c in value)
    plain = value and not set(value) - set("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits)
    sent = value if plain and draw(st.booleans()) else f'"{escaped}"'
    return f"{name}{draw(_SPACE)}={draw(_SPACE)}{sent}", name, value


@st.composite
def _challenge(draw: st.DrawFn) -> tuple[str, Challenge]:
    """One challenge as sent and as meant: a scheme with parameters, a token68, or neither."""
    scheme = draw(_TOKEN)
    if draw(st.integers(0, 3)) == 0:
        return f"{scheme} {draw(_TOKEN68)}", Challenge(scheme.lower())
    parameters = draw(st.lists(_parameter(), max_size=4))
    comma = st.builds("{},{}".format, _SPACE, _SPACE)
    text = ""
    meant: dict[str, str] = {}
    for sent, name, value in parameters:
        text += (draw(comma) if text else " ") + sent
        meant.setdefault(name.lower(), value)
    return scheme + text, Challenge(scheme.lower(), meant)


@given(st.lists(st.lists(_challenge(), min_size=1, max_size=3), max_size=3), st.data())
def test_every_challenge_that_the_rfc_allows_is_read(
    lines: list[list[tuple[str, Challenge]]], data: st.DataObject
) -> None:
    commas = st.sampled_from([",", ", ", " , ", ",,", ", ,"])
    headers = []
    for line in lines:
        text = data.draw(st.sampled_from(["", ",", " , "]))
        for sent, _ in line:
            text += sent + data.draw(commas)
        headers.append(text)
    assert parse(headers) == [challenge for line in lines for _, challenge in line]


@given(st.lists(any_text(_challenge().map(lambda pair: pair[0]))))
@example(["a=" * 5000])
@example(['a="' + "\\" * 5000])
@example(["," * 20_000 + "="])
@example([", " * 10_000 + '"'])
def test_any_text_is_no_more_than_no_challenge(headers: list[str]) -> None:
    for challenge in parse(headers):
        assert challenge.scheme
        assert all(name == name.lower() for name in challenge.params)


# Ranges


@given(st.integers(0, 40), st.integers(0, 50), st.none() | st.integers(0, 50))
def test_a_range_is_the_bytes_that_a_naive_reader_takes(
    size: int, first: int, last: int | None
) -> None:
    header = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        with pytest.raises(RangeMalformed):
            ranges.parse(header, size)
        return
    wanted = [at for at in range(size) if first <= at and (last is None or at <= last)]
    assert _positions(header, size) == wanted


@given(st.integers(0, 40), st.integers(0, 50))
def test_a_suffix_is_the_last_bytes_of_all(size: int, length: int) -> None:
    assert _positions(f"bytes=-{length}", size) == list(range(size))[max(0, size - length) :]


def _positions(header: str, size: int) -> list[int]:
    """Return the positions in the blob that a range means; none if it is refused with 416."""
    error = refused(lambda text: ranges.parse(text, size), header)
    if error is not None:
        assert error.headers() == {"Content-Range": f"bytes */{size}"}
        return []
    span = ranges.parse(header, size)
    assert span is not None
    assert span.length > 0
    return list(range(span.start, span.stop))


_RANGES = st.builds(
    "{}={}-{}".format,
    st.sampled_from(["bytes", "Bytes", "lines", " bytes "]),
    st.integers(0).map(str) | st.just(""),
    st.integers(0).map(str) | st.just(""),
)


@given(any_text(_RANGES), st.integers(0, 1 << 62))
def test_any_range_lies_in_the_blob_or_is_refused(header: str, size: int) -> None:
    with contextlib.suppress(RangeMalformed, RangeInvalid):
        span = ranges.parse(header, size)
        assert span is None or 0 <= span.start < span.stop <= size


_SIZES = st.integers(0, 10**17)


@given(_SIZES, _SIZES, _SIZES)
def test_a_span_says_the_same_in_both_headers(start: int, length: int, rest: int) -> None:
    span, size = Span(start, start + length + 1), start + length + 1 + rest
    assert ranges.parse(span.header(), size) == span
    assert ranges.parse_content_range(span.content_range(size)) == (span, size)


@given(any_text(st.builds("bytes {}-{}/{}".format, _SIZES, _SIZES, _SIZES)))
def test_any_content_range_is_a_span_inside_its_size_or_nothing(header: str) -> None:
    found = ranges.parse_content_range(header)
    if found is not None:
        span, size = found
        assert 0 <= span.start < span.stop
        assert size is None or span.stop <= size


# Sizes

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20}
_UNITS |= {"GiB": 2**30, "TiB": 2**40}


@given(st.integers(0, 10**6), st.sampled_from(sorted(_UNITS)), st.sampled_from(["", " "]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * _UNITS[unit]


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.binary())
@example("1e999GB")
@example("9" * 400)
@example("9" * 5000)
def test_any_value_is_a_size_or_refused_in_words(value: object) -> None:
    size, said = 0, "expected bytes"
    try:
        size = parse_size(value)
    except ValueError as error:
        said = str(error)
    assert said.startswith("expected bytes")
    assert isinstance(size, int)
    assert size >= 0


@given(st.integers(0, 1 << 50))
def test_a_file_is_charged_whole_blocks_and_not_one_too_many(size: int) -> None:
    assert charged(size) % 4096 == 0
    assert size <= charged(size) < size + 4096


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20_000), st.booleans())))
def test_the_catalogue_counts_its_content(steps: list[tuple[int, int, bool]]) -> None:
    catalog, model = Catalog(), dict[Digest, int]()
    for number, size, manifest in steps:
        digest = Digest.of(bytes([number]))
        if digest in model:
            catalog.remove(digest)
            del model[digest]
        else:
            catalog.add(digest, Entry(size, "application/json" if manifest else None, 0))
            model[digest] = size
        assert catalog.bytes == sum(map(charged, model.values()))
        assert set(catalog) == set(model)


@given(st.lists(st.tuples(st.integers(0, 9000), st.booleans(), st.booleans())), st.integers())
def test_eviction_frees_the_needed_bytes_and_not_one_file_more(
    files: list[tuple[int, bool, bool]], wanted: int
) -> None:
    catalog, order = Catalog(), list[tuple[Digest, Entry]]()
    for number, (size, manifest, read) in enumerate(files):
        entry = Entry(size, "application/json" if manifest else None, 0)
        entry.readers = int(read)
        order.append((Digest.of(str(number).encode()), entry))
        catalog.add(*order[-1])
    order.sort(key=lambda each: each[1].media_type is not None)  # blobs first, oldest first
    idle = [(digest, charged(entry.size)) for digest, entry in order if not entry.readers]
    chosen = catalog.victims(wanted)
    if chosen is None:
        assert sum(size for _, size in idle) < wanted or not idle
    else:
        assert chosen == [digest for digest, _ in idle[: len(chosen)]]
        freed = [size for _, size in idle[: len(chosen)]]
        assert sum(freed) >= wanted
        assert wanted <= 0 or sum(freed[:-1]) < wanted
        assert wanted > 0 or not chosen
