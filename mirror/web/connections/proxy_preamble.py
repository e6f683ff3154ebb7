"""The PROXY protocol's preamble: parsed to its last byte and no further, on any input."""

from __future__ import annotations

from ipaddress import ip_address

from mirror.identity.address import as_told

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_FIRST = len(_V2)  # bytes; the shortest preamble of version 1 ("PROXY UNKNOWN\r\n") has more
_HEAD = 16  # bytes of version 2 before its addresses
_LONGEST_V1 = 107  # bytes, including the end of the line
_LONGEST_V2 = 4096  # bytes after the head: a balancer's TLVs take some hundred
_LOCAL, _PROXY = 0x20, 0x21  # version and command
_SIZES = {1: 4, 2: 16}  # bytes of an address, by its family


class PreambleError(Exception):
    """The received bytes are not a valid preamble; the message says why."""


class Preamble:
    """Parses a preamble (HAProxy, "The PROXY protocol", versions 1 and 2) piece by piece.

    `wanted` is the number of bytes that may be read next without reading beyond the preamble; 0 at
    its end. `client` is then the address in the preamble; None if the proxy itself made the
    connection (LOCAL), or if the client's protocol is not IP.
    """

    def __init__(self) -> None:
        self.wanted = _FIRST
        self.client: str | None = None
        self._text = b""
        self._whole = 0  # bytes of version 2, once its head has arrived

    def __repr__(self) -> str:
        return f"<Preamble: {len(self._text)} bytes, {self.wanted} wanted>"

    @property
    def begun(self) -> bool:
        """Whether any byte has arrived."""
        return bool(self._text)

    def add(self, data: bytes) -> None:
        """Parse `wanted` bytes, or fewer; raises PreambleError."""
        self._text += data
        text = self._text
        if text.startswith(_V1):
            self._line(text)
        elif text.startswith(_V2):
            self._binary(text)
        elif _V1.startswith(text) or _V2.startswith(text):
            self.wanted = _FIRST - len(text)
        else:
            raise PreambleError("it began with other bytes")

    def _line(self, text: bytes) -> None:
        """Parse version 1, at most two bytes at a time: no length is given, and its end has two."""
        if text.endswith(b"\r\n"):
            self.wanted, self.client = 0, _client_of(text[:-2])
        elif len(text) >= _LONGEST_V1 or b"\n" in text:
            raise PreambleError("its line does not end with CR LF within 107 bytes")
        elif len(text) < _FIRST:
            self.wanted = _FIRST - len(text)
        else:
            self.wanted = 1 if text.endswith(b"\r") or len(text) == _LONGEST_V1 - 1 else 2

    def _binary(self, text: bytes) -> None:
        if len(text) >= _HEAD and not self._whole:
            length = int.from_bytes(text[14:_HEAD], "big")
            if text[12] not in (_LOCAL, _PROXY):
                raise PreambleError(f"its version and command are {text[12]:#04x}, not 0x20/0x21")
            if length > _LONGEST_V2:
                raise PreambleError(f"it has {length} bytes after its head, over {_LONGEST_V2}")
            self._whole = _HEAD + length
        self.wanted = (self._whole or _HEAD) - len(text)
        if self._whole and not self.wanted and text[12] == _PROXY:
            self.client = _address(text[13], text[_HEAD:])


def _client_of(line: bytes) -> str | None:
    """Return the source address in a line `PROXY TCP4 SOURCE TARGET PORT PORT`."""
    fields = line.split(b" ")
    if fields[1] == b"UNKNOWN":
        return None
    if fields[1] not in (b"TCP4", b"TCP6") or len(fields) != 6:
        raise PreambleError("its line is not one of TCP4, TCP6 or UNKNOWN")
    try:
        return as_told(fields[2].decode("ascii"))
    except ValueError:
        raise PreambleError("the source in its line is not an IP address") from None


def _address(family: int, data: bytes) -> str | None:
    size = _SIZES.get(family >> 4)
    if size is None:  # AF_UNSPEC and AF_UNIX have no IP address
        return None
    if len(data) < 2 * size + 4:
        raise PreambleError("it is too short for its addresses")
    return as_told(str(ip_address(data[:size])))
