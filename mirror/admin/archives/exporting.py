"""The content of an export on its way into a layout: each digest is proven once more."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.admin.archives.tar_writer import LayoutWriter
from mirror.admin.messages import Content, Exported, ExportedImage, OrderError, Piece, Record
from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import RegistryError
from mirror.oci.layout import INDEX, MARKED, MARKER, blob_path, index_json
from mirror.oci.manifest import Descriptor


class Exporting:
    """Takes the records of an export; `result` is the last one. Raises OrderError."""

    def __init__(self, writer: LayoutWriter) -> None:
        self.result: Exported | None = None
        self._writer = writer
        self._digest: Digest | None = None
        self._hasher: Hasher | None = None
        self._left = 0

    def take(self, record: Record) -> Iterator[str]:
        """Take a record; yields no lines."""
        try:
            self._take(record)
        except OSError as error:
            raise OrderError(f"the layout cannot be written: {error.strerror}") from None
        return iter(())

    def _take(self, record: Record) -> None:
        match record:
            case Content(digest=digest, size=size):
                self._end()
                self._begin(digest, size)
            case Piece(data=data) if self._hasher is not None:
                self._hasher.update(data)
                self._left -= len(data)
                self._writer.write(data)
            case Exported():
                self._end()
                self.result = record

    def _begin(self, text: str, size: int) -> None:
        if self._digest is None:
            self._writer.begin(MARKER, len(MARKED))
            self._writer.write(MARKED)
        try:
            self._digest = Digest.parse(text)
        except RegistryError as error:
            raise OrderError(error.message) from None
        self._hasher, self._left = self._digest.hasher(), size
        self._writer.begin(blob_path(self._digest), size)

    def _end(self) -> None:
        """Prove the content that has ended."""
        if self._digest is None or self._hasher is None:
            return
        if self._left or self._hasher.hexdigest() != self._digest.hex:
            raise OrderError(f"{self._digest} is damaged; `mirror verify` finds all that is")

    def finish(self, images: list[ExportedImage]) -> None:
        """Write index.json, and make the layout appear; raises OrderError."""
        try:
            body = index_json((each.name, _descriptor(each)) for each in images)
            self._writer.begin(INDEX, len(body))
            self._writer.write(body)
            self._writer.finish()
        except OSError as error:
            raise OrderError(f"the layout cannot be written: {error.strerror}") from None


def _descriptor(image: ExportedImage) -> Descriptor:
    return Descriptor(Digest(image.digest), image.media_type, image.size)
