"""The members of a tar archive in a file, found without unpacking it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.admin.archives.tar_headers import BLOCK, TarHeaders, cut_off


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file: where its bytes start, and how many there are."""

    start: int
    size: int


def members(file: int) -> dict[str, Member]:
    """Return the regular files of an open file by their path; raises LayoutInvalid."""
    return dict(_scan(file))


def _scan(file: int) -> Iterator[tuple[str, Member]]:
    end, position, headers = os.fstat(file).st_size, 0, TarHeaders()
    while header := headers.read(os.pread(file, BLOCK, position), position):
        position += BLOCK
        if header.extends:
            headers.extend(header, os.pread(file, header.size, position))
        elif position + header.size > end:
            raise cut_off(header.name)
        elif header.name is not None:
            yield header.name, Member(position, header.size)
        position += header.size + header.padding
