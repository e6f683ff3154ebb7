"""How far a fetch has come, as its followers see it: bytes, their proof, and who was refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import RegistryError, UpstreamMisbehaved, UpstreamUnavailable
from mirror.oci.names import Repository

TAIL = 16 * 1024  # bytes held back until the digest is proven: nobody completes on less


class Displaced(UpstreamUnavailable):
    """Upstream is slow to answer in a repository, and was asked in another one that has the blob.

    A follower of the first asks for itself.
    """


@dataclass(frozen=True, slots=True)
class Detour:
    """Where a fetch had to give up the disk: the bytes so far, and their hash."""

    written: int
    hasher: Hasher


class Progress:
    """A blob on its way. Bytes are for all followers; a refusal is for its own repository alone.

    `repository` is the one that upstream is asked in now. `visible` is how far followers may read,
    in bytes; `size` the whole, once upstream said so. One that has `ended` reads no file for a new
    follower. What failed is kept as a value: no traceback, no frames.
    """

    def __init__(self, repository: Repository, digest: Digest) -> None:
        self.repository = repository
        self.digest = digest
        self.size: int | None = None
        self.visible = 0
        self.proven = False
        self.detour: Detour | None = None
        self.failure: RegistryError | None = None
        self._of: Counter[Repository] = Counter()  # followers
        self._shown: dict[Repository, int] = {}  # let in, by the size that upstream names there
        self._refusals: dict[Repository, RegistryError] = {}
        self.ended = False
        self._changed: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Fetch {self.digest}: {self.visible} of {self.size}, {self.followers} followers>"

    @property
    def followers(self) -> int:
        """How many clients follow."""
        return self._of.total()

    def serves(self, repository: Repository) -> bool:
        """Whether upstream is asked in this repository, or was shown to have the blob there."""
        known = repository == self.repository or repository in self._shown
        return known and repository not in self._refusals

    def admits(self, repository: Repository, proof: int | None) -> bool:
        """Whether a follower may be let in.

        `proof` is the size, in bytes, under which upstream said that the repository has the blob.
        Another size than that of what is on its way proves nothing.
        """
        return self.serves(repository) or (proof is not None and self.size in (None, proof))

    def refusal(self, repository: Repository) -> RegistryError | None:
        """Return what upstream said of this very repository, if it refused the blob there."""
        return self._refusals.get(repository)

    def _let_in(self, repository: Repository, proof: int | None) -> None:
        if proof is not None:
            self._shown[repository] = proof
            self._refusals.pop(repository, None)
        self._of[repository] += 1

    def _let_out(self, repository: Repository) -> None:
        self._of[repository] -= 1
        if not self._of[repository]:
            del self._of[repository]

    @property
    def _members(self) -> list[Repository]:
        """The repositories that have the blob, as far as upstream was asked."""
        known = (self.repository, *self._shown)
        return [each for each in dict.fromkeys(known) if each not in self._refusals]

    # Waiting

    async def started(self, repository: Repository) -> None:
        """Wait until an answer for a follower of a repository may begin.

        There is a size and more than the tail to send; what is smaller is proven first, and a
        detour has its own beginning. Raises RegistryError: what upstream refused there, or what
        ended the fetch.
        """
        while not self._may_begin(repository):
            self._raise_failure()
            await self._change()

    def _may_begin(self, repository: Repository) -> bool:
        refusal, told = self._refusals.get(repository), self._shown.get(repository)
        if refusal is not None:
            raise refusal.again()
        agrees = repository == self.repository or self.size in (None, told)
        last = self.proven or self.detour is not None
        if last and not agrees:
            raise UpstreamMisbehaved("upstream names another size of the blob than it has")
        return last or (self._begun and agrees)

    @property
    def _begun(self) -> bool:
        """Whether an answer may begin with what is known of the size."""
        return (self.size or 0) > TAIL

    async def past(self, position: int) -> int:
        """Wait for bytes behind `position` and return how far one may read.

        Returns `position` itself where the fetch took a detour there. Raises RegistryError.
        """
        while self.visible <= position:
            self._raise_failure()
            if self.detour is not None:
                return position
            await self._change()
        return self.visible

    async def reaches(self, position: int) -> bool:
        """Wait until one may read up to `position`; False where that will not come."""
        while self.visible < position:
            if self.failure is not None or self.detour is not None:
                return False
            await self._change()
        return True

    async def _change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    def stopped(self) -> None:
        """Let nobody wait for what will not run any more."""
        if self.failure is None:
            self.failure = UpstreamUnavailable("the fetch was stopped")
        self._announce()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            # A fresh one each time: an exception shared by many raisers grows with each.
            raise self.failure.again()

    # Telling

    def _grow(self, received: int, size: int | None) -> None:
        self.size = size
        if size is not None:  # else the end cannot be told from the middle: all is held back
            self.visible = max(self.visible, min(received, size - TAIL))
        self._announce()

    def _reveal(self, size: int) -> None:
        """Let followers have the end: the digest is proven."""
        self.size = self.visible = size
        self.proven = True
        self._announce()

    def _announce(self) -> None:
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()
