"""The members of a tar archive (POSIX ustar and pax, GNU long names), found without unpacking it.

The standard library's reader does what headers say: it takes long names of gigabytes, and links.
Here only regular files count; links, devices, sparse files and paths that lead out are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.oci.layout import LayoutInvalid

_BLOCK = 512
_MOST_MEMBERS = 250_000
_MOST_NAME = 64 * 1024  # bytes of a long name, or of a pax header
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
class Member:
    """A regular file: where its bytes start, and how many there are."""

    start: int
    size: int


@dataclass(slots=True)
class _Next:
    """What extended headers say about the member after them."""

    name: str | None = None
    size: int | None = None


def members(file: int) -> dict[str, Member]:
    """Return the regular files of an open file by their path; raises LayoutInvalid."""
    found: dict[str, Member] = {}
    for name, member in _scan(file):
        if name in found:
            raise LayoutInvalid(f"it has {name[:200]!r} twice")
        found[name] = member
        if len(found) > _MOST_MEMBERS:
            raise LayoutInvalid(f"it has more than {_MOST_MEMBERS} files")
    return found


def _scan(file: int) -> Iterator[tuple[str, Member]]:
    end, position, coming = os.fstat(file).st_size, 0, _Next()
    while len(head := os.pread(file, _BLOCK, position)) == _BLOCK and any(head):
        size, kind = _checked(head, position), head[156:157]
        position += _BLOCK
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME):
            if size > _MOST_NAME:
                raise LayoutInvalid(f"a header has {size} bytes")
            _extend(coming, kind, os.pread(file, size, position))
        else:
            size = size if coming.size is None else coming.size
            name = _safe(_name(head) if coming.name is None else coming.name)
            if position + size > end:
                raise LayoutInvalid(f"{name[:200]!r} is cut off: the archive is not whole")
            if kind in _REGULAR:
                yield name, Member(position, size)
            elif kind != _FOLDER:
                raise LayoutInvalid(f"{name[:200]!r} is {_KINDS.get(kind, 'no regular file')}")
            coming = _Next()
        position += -(-size // _BLOCK) * _BLOCK
    if any(head) or (not head and position == 0):
        raise LayoutInvalid("it is no tar archive, or is cut off")


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
    while data:
        length, space, _ = data[:20].partition(b" ")
        if not space or not length.isdigit() or not len(length) + 1 < int(length) <= len(data):
            raise LayoutInvalid("a pax header is invalid")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        yield key, value
        data = data[int(length) :]


def _safe(name: str) -> str:
    """Return a path within the archive; raises LayoutInvalid if it leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise LayoutInvalid(f"it has the path {name[:200]!r}, which leads out of it")
    return "/".join(parts)
