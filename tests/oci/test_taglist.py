"""A list of tags that is read in pieces is the whole list, wherever it is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.names import is_tag
from mirror.oci.taglist import PIECE, TagReader

_TEXTS = st.text(max_size=6) | st.sampled_from(['"', "\\", "a,b", "é", "]", "\u2028", "{"])
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda value: st.lists(value, max_size=3) | st.dictionaries(_TEXTS, value, max_size=3),
    max_leaves=8,
)
_TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,8}", fullmatch=True)
_LISTS = st.fixed_dictionaries(
    {"name": _TEXTS, "tags": st.none() | st.lists(_TAGS | _VALUES, max_size=12)},
    optional={"child": _VALUES, "manifest": _VALUES, "other": _VALUES, "next": _VALUES},
)
_FORMS = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}])


def feed(reader: TagReader, data: bytes, size: int = PIECE) -> bytes:
    """Feed a reader in pieces of so many bytes; returns the bytes for the client."""
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(map(reader.feed, pieces))


def read(data: bytes, size: int = PIECE) -> tuple[dict[str, object], TagReader]:
    """Read in pieces of so many bytes; returns the client's document, and the reader."""
    reader = TagReader("org/app")
    told = feed(reader, data, size) + reader.finish()
    found = json.loads(told)
    assert json.loads(b"[" + told[reader.tags] + b"]") == found["tags"]
    return found, reader


@given(_LISTS, _FORMS, st.integers(1, 40))
def test_wherever_it_is_cut_the_same_is_read(
    document: dict[str, object], form: dict[str, object], size: int
) -> None:
    data = json.dumps(document, **form).encode(errors="surrogatepass")  # type: ignore[arg-type]
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="utf-8"):
            read(data, size)
        return
    found, reader = read(data, size)
    listed = document["tags"] if isinstance(document["tags"], list) else []
    tags = [tag for tag in listed if isinstance(tag, str) and is_tag(tag)]
    assert found["tags"] == tags
    assert reader.left_out == len(listed) - len(tags)
    assert found["name"] == "org/app"
    for key in ("child", "manifest"):
        assert (key in found) == (key in document)
        assert found.get(key) == document.get(key)
    assert found.keys() <= {"name", "tags", "child", "manifest"}


@given(_LISTS, st.integers(1, 40), st.data())
def test_what_ends_early_is_no_list(
    document: dict[str, object], size: int, data: st.DataObject
) -> None:
    whole = json.dumps(document).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(ValueError, match=r"."):
        read(cut, size)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"a"}',
        '{"name":"a","tags":null}',
        '{"child":["b"],"manifest":{},"name":"a","tags":[]}',
        ' { "tags" : [ ] , "name" : "a" }\r\n',
    ],
)
def test_a_repository_may_have_no_tags(text: str) -> None:
    assert read(text.encode())[0]["tags"] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"errors":[{"code":"UNKNOWN"}]}',
        '{"errors":[],"name":"a"}',
        '{"tags":["a"]',
        '{"tags":["a"]}}',
        '{"tags":["a"]} {}',
        '{"tags":["a",]}',
        '{"tags":[,"a"]}',
        '{"tags":["a" "b"]}',
        '{"tags":["a"],}',
        '{tags:["a"]}',
        '{"tags":["a"],"tags":["b"]}',
        '{"tags":["a"],"Tags":["b"]}',
        '{"manifest":{"a":{"tag":[],"tag":[]}},"tags":[]}',
        '{"tags":["a",NaN]}',
        '{"tags":["a"],"x":Infinity}',
        '{"tags":{"a":1}}',
        '{"tags":"a"}',
        '{"tags":1}',
        '{"tags":["a"]}\0',
        '{"tags":["a\n"]}',
        "{'tags':['a']}",
        '{"tags":["a"],"manifest":{"a":' + "[" * 70 + "]" * 70 + "}}",
        '{"tags":["a"],"x":' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"tags":["a"],' + ",".join(f'"{number}":0' for number in range(65)) + "}",
        "<html>Please log in</html>",
    ],
)
@pytest.mark.parametrize("size", [1, 7, PIECE])
def test_a_document_that_is_no_list_or_reads_in_two_ways_is_refused(text: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text.encode(), size)


@pytest.mark.parametrize(
    ("before", "endless"),
    [
        (b"", b" "),
        (b'{"tags":["a"]}', b"\n"),
        (b'{"tags":["a",', b" "),
        (b'{"tags":["', b"a"),
        (b'{"tags":["a",5', b"5"),
        (b'{"tags":["a"],"x":["', b"\\n"),
        (b'{"tags":["a"],"manifest":{"a":{"b":[1', b",1"),
        (b'{"tags":["a"],"x":[', b"["),
        (b'{"tags":[0', b",0"),
        (b'{"tags":["a"],"x":[0', b",0"),
    ],
)
def test_what_never_ends_is_refused_before_it_takes_memory(before: bytes, endless: bytes) -> None:
    reader = TagReader("org/app")
    with pytest.raises(ValueError, match=r"too|nested"):
        feed(reader, before + endless * (4_000_000 // len(endless)))
    assert len(reader._text) < 128 * 1024
