"""Plain text is one short line that a terminal only prints."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirror.util.plain_text import plain


@given(st.text(), st.integers(2, 50))
def test_any_text_becomes_one_printable_line_of_a_bounded_length(text: str, most: int) -> None:
    shown = plain(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    assert not shown.isspace()
    shown.encode()


def test_a_readable_text_stays_as_it_is_and_a_cut_one_says_so() -> None:
    assert plain("RUN apt-get install é", 40) == "RUN apt-get install é"
    assert plain("a\n\tb  c", 40) == "a b c"
    assert plain("abcdef", 4) == "abc…"
    assert plain(" " * 10**7 + "x", 4) == "…"
    assert (
        plain("a\x1b[31m\u202e\ud800", 40)
        == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    )
