"""The chunked coding of a body is decoded whatever the pieces in which it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.errors import RequestInvalid
from mirror.web.connections.chunked import ChunkedDecoder


def coded(pieces: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return a body in chunks."""
    chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces if each)
    return chunks + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(max_size=300), max_size=6),
    st.sampled_from([b"", b";a=b", b" ; quoted"]),
    st.sampled_from([b"", b"A: 1\r\nB: 2\r\n"]),
    st.integers(1, 50),
)
def test_a_body_is_the_same_in_any_pieces(
    pieces: list[bytes], extension: bytes, trailers: bytes, step: int
) -> None:
    body, decoder, found = coded(pieces, extension, trailers), ChunkedDecoder(), b""
    for start in range(0, len(body), step):
        assert not decoder.ended
        found += decoder.take(body[start : start + step])
    assert decoder.ended
    assert found == b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"x\r\n", "no valid size"),
        (b"-1\r\n", "no valid size"),
        (b"0x10\r\n", "no valid size"),
        (b"\r\n", "no valid size"),
        (b"f" * 16 + b"\r\n", "no valid size"),
        (b"1\r\nab\r\n", "longer than its size"),
        (b"1" * 5000, "more than 4096 bytes"),
        (b"0\r\n" + b"a: b\r\n" * 65, "more than 64 trailers"),
    ],
)
def test_a_wrong_coding_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        ChunkedDecoder().take(body)
    assert words in caught.value.message


def test_what_follows_the_body_is_no_part_of_it() -> None:
    decoder = ChunkedDecoder()
    assert decoder.take(coded([b"abc"]) + b"GET / HTTP/1.1\r\n") == b"abc"
    assert decoder.ended
    assert decoder.take(b"more") == b""
