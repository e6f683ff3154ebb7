"""A tag list in JSON, parsed and rewritten in pieces: of any length, in little memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator
from typing import Any

from mirror.oci import strict_json
from mirror.oci.names import is_tag

PIECE = 4 * 1024  # bytes to feed at once: parsed in at most 25 ms, and mostly in 0.03
_LONGEST = 64 * 1024  # characters of an entry
_MOST_MEMBERS = 64
_MOST_ODD = 1000  # entries that are not tags; with more, the document is not a list of tags
# Limits for entries other than tags: entries to pass on (Google's manifests), and the rest.
_MOST_PASSED = 500_000
_MOST_DROPPED = 50_000
# Keys that Google's registries add, and Google's clients read: child repositories, and manifests by
# digest. They are passed on unchanged.
_PASSED = frozenset({"child", "manifest"})
_BLANK = re.compile(r"[ \t\r\n]*")
_BEHIND = re.compile(r"[ \t\r\n]*+[,:\]}]")
_BLANKS = str.maketrans("", "", " \t\r\n")
_RUN = re.compile(r'(?:[ \t\r\n]*+"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"[ \t\r\n]*+,)+', re.ASCII)
_JSON = json.JSONDecoder(
    object_pairs_hook=strict_json.members, parse_constant=strict_json.refuse_constant
)

# A coroutine that yields for more text, and returns the parsed value.
_Reading = Generator[None, None, Any]


class TagReader:
    """An incremental parser: upstream's bytes in, a list of valid tags for the client out.

    `left_out` counts other entries. `tags` is the position of the tags in the output, in bytes,
    once all input is parsed. Raises ValueError for a document that is ambiguous or not a list of
    tags.
    """

    def __init__(self, name: str) -> None:
        self.left_out = 0
        self.tags = slice(0, 0)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0  # position up to which the text is parsed
        self._idle = 0  # bytes received since the last value was parsed
        self._others = 0
        self._out: list[bytes] = []
        self._given = 0  # bytes
        self._ended = False
        self._steps = self._document(name)

    def feed(self, data: bytes) -> bytes:
        """Parse at most a PIECE; returns the bytes to send for it."""
        self._take(data, final=False)
        if self._idle > _LONGEST:
            raise ValueError("an entry is too long")
        return self._pour()

    def finish(self) -> bytes:
        """Parse the end of the input; returns the remaining output."""
        self._take(b"", final=True)
        if not self._ended or self._at < len(self._text):
            raise ValueError("the document is incomplete")
        self._give("}")  # only now: the input might have continued
        return self._pour()

    def _take(self, data: bytes, *, final: bool) -> None:
        self._text = self._text[self._at :] + self._decoder.decode(data, final)
        self._at = 0
        self._idle += len(data)
        next(self._steps, None)

    def _pour(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _give(self, text: str) -> None:
        data = text.encode()
        self._given += len(data)
        self._out.append(data)

    # The document

    def _document(self, name: str) -> _Reading:
        seen: set[str] = set()
        self._give(f'{{"name":{json.dumps(name)}')
        yield from self._sign("{")
        while (yield from self._goes_on("}", first=not seen)):
            key, _ = yield from self._key()
            if key.lower() in seen or len(seen) == _MOST_MEMBERS:  # Go's JSON ignores case
                raise ValueError("duplicate key")
            seen.add(key.lower())
            yield from self._member(key)
        if "tags" not in seen:
            # Some registries write an empty repository so; an error document has no name.
            if "name" not in seen or "errors" in seen:
                raise ValueError("the key tags is missing")
            self._begin_tags()
            self._end_tags()
        self._ended = True
        yield from self._next()  # nothing may follow

    def _member(self, key: str) -> _Reading:
        opening = yield from self._next()
        passed = key in _PASSED
        if passed:
            self._give(f",{json.dumps(key)}:")
        if key == "tags":
            yield from self._tags()
        elif opening in "[{":
            yield from self._others_of(opening, passed=passed)
        else:
            _, written = yield from self._value()
            self._give(written if passed else "")

    def _others_of(self, opening: str, *, passed: bool) -> _Reading:
        """Parse an array or object that holds no tags, entry by entry."""
        closing = "]" if opening == "[" else "}"
        yield from self._sign(opening)
        self._give(opening if passed else "")
        first = True
        while (yield from self._goes_on(closing, first=first)):
            text = "" if first else ","
            if opening == "{":
                _, key = yield from self._key()
                text += key + ":"
            value, written = yield from self._value()
            if passed:
                _refuse_deep(value)
                self._give(text + written)
            first = False
            self._others += 1
            if self._others > (_MOST_PASSED if passed else _MOST_DROPPED):
                raise ValueError("too many entries other than tags")
        self._give(closing if passed else "")

    # Tags

    def _tags(self) -> _Reading:
        self._begin_tags()
        if (yield from self._next()) != "[":
            value, _ = yield from self._value()
            if value is not None:  # distribution writes null for an empty list
                raise ValueError("tags is not a list")
        else:
            yield from self._sign("[")
            yield from self._entries()
        self._end_tags()

    def _begin_tags(self) -> None:
        self._give(',"tags":[')
        self.tags = slice(self._given, self._given)

    def _end_tags(self) -> None:
        self.tags = slice(self.tags.start, self._given)
        self._give("]")

    def _entries(self) -> _Reading:
        comma, first = "", True
        while (yield from self._goes_on("]", first=first)):
            first = False
            # The fast path for nearly all tags: a whole run of them in one match.
            if run := _RUN.match(self._text, self._at):
                self._read_to(run.end() - 1)
                self._give(comma + run[0].translate(_BLANKS)[:-1])
                comma = ","
                continue
            tag, _ = yield from self._value()
            if isinstance(tag, str) and is_tag(tag):
                self._give(f'{comma}"{tag}"')
                comma = ","
            else:
                self._leave_out()

    def _leave_out(self) -> None:
        self.left_out += 1
        if self.left_out > _MOST_ODD:
            raise ValueError("too many entries are not valid tags")

    # Tokens

    def _next(self) -> _Reading:
        """Return the next character that is not blank, without consuming it."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            yield

    def _sign(self, sign: str) -> _Reading:
        if (yield from self._next()) != sign:
            raise ValueError(f"{sign} is expected")
        self._read_to(self._at + 1)

    def _goes_on(self, closing: str, *, first: bool) -> _Reading:
        """Advance to the next entry; returns False at the end."""
        sign = yield from self._next()
        if sign == closing:
            self._read_to(self._at + 1)
            return False
        if not first:
            yield from self._sign(",")
            if (yield from self._next()) == closing:
                raise ValueError("a comma precedes the end")
        return True

    def _key(self) -> _Reading:
        key, text = yield from self._value()
        if not isinstance(key, str):
            raise ValueError("a key is not a string")  # noqa: TRY004 - a fault of the document
        yield from self._sign(":")
        return key, text

    def _value(self) -> _Reading:
        """Parse a whole value; returns it and its text.

        A value is complete only once a delimiter follows: 12 might be the beginning of 12.3.
        """
        yield from self._next()
        while True:
            value, end = self._decoded()
            if self._at < end and _BEHIND.match(self._text, end):
                text = self._text[self._at : end]
                self._read_to(end)
                return value, text
            yield

    def _decoded(self) -> tuple[Any, int]:
        """Parse a value; returns it and its end, or the current position if it is incomplete."""
        try:
            return _JSON.raw_decode(self._text, self._at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError:  # invalid or incomplete: an invalid value soon exceeds the limit
            return None, self._at

    def _read_to(self, end: int) -> None:
        self._at = end
        self._idle = len(self._text) - end


def _refuse_deep(value: object) -> None:
    if strict_json.is_deep(value):
        raise ValueError("nested too deeply")
