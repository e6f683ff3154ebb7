"""The PROXY protocol's preamble: read to its last byte and no further, whatever a peer sends."""

from __future__ import annotations

from ipaddress import ip_address

from mirror.cache.address import as_told

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_FIRST = len(_V2)  # bytes; the shortest of version 1 ("PROXY UNKNOWN\r\n") has more
_HEAD = 16  # bytes of version 2 before its addresses
_LONGEST_V1 = 107  # bytes, with the end of the line
_LONGEST_V2 = 4096  # bytes behind the head: a balancer's TLVs take some hundred
_LOCAL, _PROXY = 0x20, 0x21  # version and command
_SIZES = {1: 4, 2: 16}  # bytes of an address, by its family


class PreambleError(Exception):
    """What came is no preamble; the message says what it is."""


class Preamble:
    """Reads one (HAProxy, "The PROXY protocol", versions 1 and 2) as it comes.

    `wanted` is how many bytes may be taken next without taking one of what follows; 0 at the end.
    Then `client` is the address that it tells, None where it tells none: of a connection of the
    proxy's own (LOCAL), and of what is no IP.
    """

    def __init__(self) -> None:
        self.wanted = _FIRST
        self.client: str | None = None
        self._text = b""
        self._whole = 0  # bytes of version 2, once its head is there

    def __repr__(self) -> str:
        return f"<Preamble: {len(self._text)} bytes, {self.wanted} wanted>"

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._text)

    def add(self, data: bytes) -> None:
        """Take `wanted` bytes in, or fewer; raises PreambleError."""
        self._text += data
        text = self._text
        if text.startswith(_V1):
            self._line(text)
        elif text.startswith(_V2):
            self._binary(text)
        elif _V1.startswith(text) or _V2.startswith(text):
            self.wanted = _FIRST - len(text)
        else:
            raise PreambleError("it began with something else")

    def _line(self, text: bytes) -> None:
        """Read version 1. Two bytes at a time at most: its end has two, and no length tells it."""
        if text.endswith(b"\r\n"):
            self.wanted, self.client = 0, _client_of(text[:-2])
        elif len(text) >= _LONGEST_V1 or b"\n" in text:
            raise PreambleError("its line has no end where it should")
        elif len(text) < _FIRST:
            self.wanted = _FIRST - len(text)
        else:
            self.wanted = 1 if text.endswith(b"\r") or len(text) == _LONGEST_V1 - 1 else 2

    def _binary(self, text: bytes) -> None:
        if len(text) >= _HEAD and not self._whole:
            length = int.from_bytes(text[14:_HEAD], "big")
            if text[12] not in (_LOCAL, _PROXY):
                raise PreambleError(f"its version and command are {text[12]:#04x}")
            if length > _LONGEST_V2:
                raise PreambleError(f"it has {length} bytes, more than {_LONGEST_V2}")
            self._whole = _HEAD + length
        self.wanted = (self._whole or _HEAD) - len(text)
        if self._whole and not self.wanted and text[12] == _PROXY:
            self.client = _address(text[13], text[_HEAD:])


def _client_of(line: bytes) -> str | None:
    """Return the source of a line `PROXY TCP4 SOURCE TARGET PORT PORT`."""
    fields = line.split(b" ")
    if fields[1] == b"UNKNOWN":
        return None
    if fields[1] not in (b"TCP4", b"TCP6") or len(fields) != 6:
        raise PreambleError("its line is not that of TCP4, TCP6 or UNKNOWN")
    try:
        return as_told(fields[2].decode("ascii"))
    except ValueError:
        raise PreambleError("its line has no address where it should") from None


def _address(family: int, data: bytes) -> str | None:
    size = _SIZES.get(family >> 4)
    if size is None:  # AF_UNSPEC and AF_UNIX: whoever it is, it has no address
        return None
    if len(data) < 2 * size + 4:
        raise PreambleError("it is too short for its addresses")
    return as_told(str(ip_address(data[:size])))
