"""Requests are told apart at the ends of their heads, however they arrive."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mirror.web.connections.request_heads import RequestHeads

TEXTS = st.lists(st.sampled_from([b"\r\n\r\n", b"\r", b"\n", b"\r\n", b"a", b"b" * 20_000]))


def pieces(heads: RequestHeads, data: bytes) -> Iterator[bytes]:
    heads.add(data)
    while piece := heads.next():
        yield piece


@given(TEXTS, st.lists(st.integers(0, 40)))
def test_however_it_arrives_a_piece_ends_where_a_head_does(
    parts: list[bytes], cuts: list[int]
) -> None:
    text, heads, given_out = b"".join(parts), RequestHeads(), b""
    ends = set()
    rest = text
    for cut in [*cuts, len(text)]:
        for piece in pieces(heads, rest[:cut]):
            given_out += piece
            if heads.unended == 0:
                ends.add(len(given_out))
            assert piece.count(b"\r\n\r\n") <= 1
        rest = rest[cut:]
    assert given_out == text
    assert ends == ends_of(text)
    assert heads.unended == len(text) - max(ends, default=0)


def ends_of(text: bytes) -> set[int]:
    """Return the ends of heads, found in the plainest way."""
    found, at = set(), 0
    while (at := text.find(b"\r\n\r\n", at)) >= 0:
        at += 4
        found.add(at)
    return found


def test_what_waits_can_be_dropped() -> None:
    heads = RequestHeads()
    heads.add(b"a\r\n\r\nbcd")
    assert heads.next() == b"a\r\n\r\n"
    assert heads.drop() == b"bcd"
    assert heads.next() == b""
