"""The headers of a tar archive (POSIX ustar and pax, GNU long names), read one after the other.

The standard library's reader does what headers say: it takes long names of gigabytes, and links.
Here only regular files count; links, devices, sparse files and paths that lead out are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from mirror.oci.layout import LayoutInvalid

BLOCK = 512
MOST_MEMBERS = 250_000
_MOST_NAME = 64 * 1024  # bytes of a long name, or of a pax header
_MOST_RECORDS = 1000  # of a pax header; writers have a dozen, and one for each extended attribute
_REGULAR, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME = b"x", b"g", b"L"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"K": "a link with a long name",
}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zX": "xz"}


@dataclass(frozen=True, slots=True)
class Header:
    """A header: `size` bytes follow, and padding up to a whole block.

    They belong to a regular file of this `name`. If the name is None, they are of a folder, or
    extend the next header (`extends`), and then they are for `TarHeaders.extend`.
    """

    size: int
    name: str | None = None
    extends: bytes = b""

    @property
    def padding(self) -> int:
        """The bytes between the end of the content and the next header."""
        return -self.size % BLOCK


@dataclass(slots=True)
class _Next:
    """What extended headers say about the member after them."""

    name: str | None = None
    size: int | None = None


class TarHeaders:
    """Reads the headers of one archive, in their order."""

    def __init__(self) -> None:
        self._coming = _Next()
        self._found: set[bytes] = set()  # hashes: each name may have 64 KiB

    def read(self, block: bytes, position: int) -> Header | None:
        """Read a block at a byte of the archive; None is its end. Raises LayoutInvalid."""
        if len(block) < BLOCK or not any(block):
            if any(block) or (not block and position == 0):
                raise LayoutInvalid("it is no tar archive, or is cut off")
            return None
        size, kind = _checked(block, position), block[156:157]
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            if size > _MOST_NAME:
                raise LayoutInvalid(f"a header has {size} bytes")
            return Header(size, extends=kind)
        coming, self._coming = self._coming, _Next()
        size = size if coming.size is None else coming.size
        name = _safe(_name(block) if coming.name is None else coming.name)
        if kind == _FOLDER:
            return Header(size)
        if kind not in _REGULAR:
            raise LayoutInvalid(f"{name[:200]!r} is {_KINDS.get(kind, 'no regular file')}")
        self._count(name)
        return Header(size, name)

    def _count(self, name: str) -> None:
        found = blake2b(name.encode(), digest_size=16).digest()
        if found in self._found:
            raise LayoutInvalid(f"it has {name[:200]!r} twice")
        self._found.add(found)
        if len(self._found) > MOST_MEMBERS:
            raise LayoutInvalid(f"it has more than {MOST_MEMBERS} files")

    def extend(self, header: Header, data: bytes) -> None:
        """Read the content of an extended header; raises LayoutInvalid."""
        _extend(self._coming, header.extends, data)


def cut_off(name: str | None) -> LayoutInvalid:
    """Return the fault of an archive that ends within a file."""
    return LayoutInvalid(f"{(name or '')[:200]!r} is cut off: the archive is not whole")


def _checked(head: bytes, position: int) -> int:
    """Return the size in a header, if its checksum is right; raises LayoutInvalid."""
    summed = sum(head[:148]) + sum(head[156:]) + 8 * 0x20
    try:
        if _number(head[148:156]) == summed:
            return _number(head[124:136])
    except ValueError:
        pass
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed and not position:
        raise LayoutInvalid(f"it is compressed with {packed}: unpack it first")
    raise LayoutInvalid(f"it is no tar archive: the header at byte {position} is wrong")


def _number(field: bytes) -> int:
    """Return a number in octal, or in base 256 as GNU writes large ones; raises ValueError."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.rstrip(b"\0 ").lstrip(b" ")
    if not all(0x30 <= byte <= 0x37 for byte in text):
        raise ValueError("no octal number")
    return int(text or b"0", 8)


def _name(head: bytes) -> str:
    name, prefix = _text(head[:100]), _text(head[345:500])
    posix = head[257:263] == b"ustar\0"
    return f"{prefix}/{name}" if posix and prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _extend(coming: _Next, kind: bytes, data: bytes) -> None:
    if kind == _LONG_NAME:
        coming.name = _text(data)
    for key, value in _records(data) if kind == _PAX else ():
        if key == b"path":
            coming.name = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 19:
                raise LayoutInvalid("a header has an invalid size")
            coming.size = int(value)
        elif key.startswith(b"GNU.sparse"):
            raise LayoutInvalid("it has a sparse file")


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a pax header, `LENGTH KEY=VALUE`; raises LayoutInvalid."""
    start, count = 0, 0
    while start < len(data):
        length, space, _ = data[start : start + 20].partition(b" ")
        begin, count = start + len(length) + 1, count + 1
        if not space or not length.isdigit() or count > _MOST_RECORDS:
            raise LayoutInvalid("a pax header is invalid")
        if not begin < (end := start + int(length)) <= len(data):
            raise LayoutInvalid("a pax header is invalid")
        key, _, value = data[begin : end - 1].partition(b"=")
        yield key, value
        start = end


def _safe(name: str) -> str:
    """Return a path within the archive; raises LayoutInvalid if it leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise LayoutInvalid(f"it has the path {name[:200]!r}, which leads out of it")
    return "/".join(parts)
