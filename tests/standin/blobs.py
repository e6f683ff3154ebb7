"""Blobs: bytes named by their digest, and layers that real engines can unpack."""

import hashlib
import io
import random
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PIECE = 1024 * 1024
FILE_LIMIT = 8 * PIECE
BLOCK = 512
STORED = 0
FAST = 1


@dataclass(frozen=True)
class Blob:
    """Content with its digest; a big one stays in a file."""

    digest: str
    size: int
    data: bytes | Path
    media_type: str = "application/octet-stream"

    @classmethod
    def of(cls, data: bytes, media_type: str = "application/octet-stream") -> "Blob":
        """Make a blob of these bytes."""
        return cls(digest_of(data), len(data), data, media_type)

    def read(self) -> bytes:
        """Return the whole content."""
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()

    def __repr__(self) -> str:
        return f"Blob({self.digest[:19]}, {self.size} bytes)"


@dataclass(frozen=True)
class Layer:
    """A gzipped tar, and the digest of the tar inside, which image configs name."""

    blob: Blob
    diff_id: str


def digest_of(data: bytes) -> str:
    """Return the sha256 digest, as registries write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(seed: str, size: int) -> Iterator[bytes]:
    """Yield `size` incompressible bytes, the same for each seed."""
    generator = random.Random(seed)
    for start in range(0, size, PIECE):
        yield generator.randbytes(min(PIECE, size - start))


def random_layer(seed: str, size: int, media_type: str, folder: Path | None = None) -> Layer:
    """Make a layer of about `size` bytes, in a file if there is a `folder`."""
    return pack(_tar(seed, size), media_type, level=STORED, folder=folder)


def pack(
    tar: Iterable[bytes], media_type: str, *, level: int = FAST, folder: Path | None = None
) -> Layer:
    """Gzip a tar stream, and compute both digests on the way."""
    if folder is None:
        memory = io.BytesIO()
        diff_id, digest, size = _gzip(tar, memory, level)
        return Layer(Blob(digest, size, memory.getvalue(), media_type), diff_id)
    unnamed = folder / "layer.partial"
    with unnamed.open("wb") as file:
        diff_id, digest, size = _gzip(tar, file, level)
    path = unnamed.rename(folder / digest.replace(":", "-"))
    return Layer(Blob(digest, size, path, media_type), diff_id)


def _gzip(pieces: Iterable[bytes], sink: BinaryIO, level: int) -> tuple[str, str, int]:
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    gzip = zlib.compressobj(level, wbits=31)  # 31: a gzip wrapper, without a time stamp

    def put(data: bytes) -> int:
        packed.update(data)
        return sink.write(data)

    for piece in pieces:
        plain.update(piece)
        size += put(gzip.compress(piece))
    size += put(gzip.flush())
    return f"sha256:{plain.hexdigest()}", f"sha256:{packed.hexdigest()}", size


def _tar(seed: str, size: int) -> Iterator[bytes]:
    for number, start in enumerate(range(0, size, FILE_LIMIT)):
        length = min(FILE_LIMIT, size - start)
        entry = tarfile.TarInfo(f"data/{digest_of(seed.encode())[7:19]}-{number}.bin")
        entry.size, entry.mode = length, 0o644
        yield entry.tobuf(tarfile.USTAR_FORMAT)
        yield from noise(f"{seed}/{number}", length)
        yield bytes(-length % BLOCK)
    yield bytes(2 * BLOCK)
