"""Hostile files take bounded memory, time and stack."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.image_lists.found import UnreadableList
from mirror.image_lists.reader import MOST_BYTES, read_images

NINES = "a0: &a0 {image: x:1}\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)
MERGES = "a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}\n"
MERGES += "".join(f"b{n}: {{<<: *a0}}\n" for n in range(2000))
CHAIN = "a0: &a0 {image: x:1}\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 100_000,
        "? " * 50_000,
        "a: " + "[" * 63 + "]" * 63,
        NINES,
        MERGES,
        CHAIN,
        "a: &a [*a]\nb: {<<: *b}\n<<: &c {<<: *c}\n",
        "image: " + "x" * 1_000_000,
        "image: " + "${A:-" * 100_000,
        "services: {a: {image: '" + "${A:-" * 700 + "'}}",
        "FROM " + "${A:-" * 100_000,
        "FROM a \\\n" * 100_000,
        "---\n" * 200_000,
        "!!python/object/apply:os.system ['true']",
        "a: \x00",
        "\x00\x01\x02",
    ],
    ids=range(18),
)
def test_a_hostile_text_takes_little_time_and_ends_nothing(text: str) -> None:
    began = time.process_time()
    found = read_images(text.encode(), {})
    assert len(found.images) <= 1
    assert time.process_time() - began < 5


def test_what_aliases_stand_for_is_walked_once() -> None:
    text = NINES[: NINES.index("a30:")]
    assert [str(each.name.reference) for each in read_images(text.encode(), {})] == ["1"]


def test_a_file_beyond_the_bounds_is_refused() -> None:
    with pytest.raises(UnreadableList, match="larger than"):
        read_images(b"x" * (MOST_BYTES + 1), {})
    with pytest.raises(UnreadableList, match="more than"):
        read_images("".join(f"a:{n}\n" for n in range(10_001)).encode(), {})
    with pytest.raises(UnreadableList, match="UTF-8"):
        read_images("nginx".encode("utf-16"), {})


def test_many_skipped_texts_take_bounded_memory() -> None:
    assert len(read_images(b"not one\n" * 100_000, {}).skipped) == 1000


WORDS = st.sampled_from(
    [
        *("image", "image:", "images:", "services:", "kind:", "repository:", "tag:", "nginx:1"),
        *("${A:-b}", "$", "{", "}", "[", "]", "-", ":", ",", "&", "*", "<<", "!t", "|", ">", "?"),
        *("'", '"', "#", "---", "...", "FROM", "ARG", "COPY", "RUN", "--from=x", "<<EOF", "\\"),
        *("CustomResourceDefinition", "\t", "\n"),
    ]
)
GAPS = st.sampled_from([" ", "\n", "\n  ", ""])


@given(st.lists(WORDS, max_size=60), st.lists(GAPS, max_size=60))
def test_any_text_is_read_or_refused(words: list[str], gaps: list[str]) -> None:
    text = "".join(word + gap for word, gap in zip_longest(words, gaps, fillvalue="\n"))
    with suppress(UnreadableList):
        found = read_images(text.encode(), {"A": "${A}"})
        assert all(str(each.name).isprintable() for each in found)
        assert all(skipped.reason.isprintable() for skipped in found.skipped)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(UnreadableList):
        read_images(data, {})
