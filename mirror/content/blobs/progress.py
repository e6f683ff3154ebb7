"""Progress of a fetch, as its followers see it: bytes, their proof, and refused repositories."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mirror.oci.digest import Digest, Hasher
from mirror.oci.errors import RegistryError, UpstreamMisbehaved, UpstreamUnavailable
from mirror.oci.names import Repository
from mirror.util.notifier import Notifier

TAIL = 16 * 1024  # bytes held back until the digest is proven: no client completes on less


class Preempted(UpstreamUnavailable):
    """Upstream was slow in this repository, and the fetch moved to another that has the blob.

    A follower of the slow repository asks upstream itself.
    """


@dataclass(frozen=True, slots=True)
class Bypass:
    """The position at which a fetch stopped writing to the disk: bytes so far, and their hash."""

    written: int
    hasher: Hasher


@dataclass(slots=True)
class Pace:
    """The pace of a body: bytes received of it, `since` a time of a monotonic clock, in seconds."""

    since: float
    received: int = 0

    def rate(self, now: float) -> float:
        """Return the bytes a second."""
        return self.received / max(now - self.since, 0.001)


class FetchProgress:
    """A blob under fetch. All followers share its bytes; a refusal is for one repository only.

    `repository` is where upstream is asked now. `visible` is the limit up to which
    followers may read, in bytes; `size` is that of the blob, once upstream has named it. After
    `ended` no file is read for a new follower. A failure is kept as a value, without traceback
    and frames. `pace` is that of the body, once it arrives.
    """

    def __init__(self, repository: Repository, digest: Digest) -> None:
        self.repository = repository
        self.digest = digest
        self.size: int | None = None
        self.visible = 0
        self.proven = False
        self.bypass: Bypass | None = None
        self.failure: RegistryError | None = None
        self._of: Counter[Repository] = Counter()  # followers
        self._shown: dict[Repository, int] = {}  # admitted, with the size that upstream names there
        self._refusals: dict[Repository, RegistryError] = {}
        self.ended = False
        self.pace: Pace | None = None
        self._changes = Notifier()

    def __repr__(self) -> str:
        return f"<Fetch {self.digest}: {self.visible} of {self.size}, {self.followers} followers>"

    @property
    def followers(self) -> int:
        """The number of followers."""
        return self._of.total()

    def serves(self, repository: Repository) -> bool:
        """Whether upstream is asked in this repository, or has shown that it has the blob there."""
        known = repository == self.repository or repository in self._shown
        return known and repository not in self._refusals

    def admits(self, repository: Repository, proof: int | None) -> bool:
        """Whether a follower may be admitted.

        `proof` is the size of the blob, in bytes, that upstream named in the repository. A size
        that differs from that of the fetch proves nothing.
        """
        return self.serves(repository) or (proof is not None and self.size in (None, proof))

    def refusal(self, repository: Repository) -> RegistryError | None:
        """Return upstream's refusal of the blob in this repository, if there is one."""
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
        """The repositories that have the blob, by upstream's answers so far."""
        known = (self.repository, *self._shown)
        return [each for each in dict.fromkeys(known) if each not in self._refusals]

    # Waiting

    async def started(self, repository: Repository) -> None:
        """Wait until the response to a follower in a repository may begin.

        That takes a size larger than the tail; a smaller blob is proven first, and a bypass starts
        its response itself. Raises RegistryError: upstream's refusal there, or the fetch's failure.
        """
        while not self._may_begin(repository):
            self._raise_failure()
            await self._changes.changed()

    def _may_begin(self, repository: Repository) -> bool:
        refusal, announced_size = self._refusals.get(repository), self._shown.get(repository)
        if refusal is not None:
            raise refusal.again()
        agrees = repository == self.repository or self.size in (None, announced_size)
        last = self.proven or self.bypass is not None
        if last and not agrees:
            raise UpstreamMisbehaved("upstream names a size that the blob does not have")
        return last or (self._begun and agrees)

    @property
    def _begun(self) -> bool:
        """Whether the known size lets a response begin."""
        return (self.size or 0) > TAIL

    async def past(self, position: int) -> int:
        """Wait for bytes after `position`; return the limit up to which followers may read.

        Returns `position` itself if the fetch bypasses the disk from there. Raises RegistryError.
        """
        while self.visible <= position:
            self._raise_failure()
            if self.bypass is not None:
                return position
            await self._changes.changed()
        return self.visible

    async def reaches(self, position: int) -> bool:
        """Wait until followers may read up to `position`; False if the fetch ends before it."""
        while self.visible < position:
            if self.failure is not None or self.bypass is not None:
                return False
            await self._changes.changed()
        return True

    def stopped(self) -> None:
        """Wake all followers with a failure: the fetch will not run any more."""
        if self.failure is None:
            self.failure = UpstreamUnavailable("the fetch was stopped")
        self._changes.notify()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            # A new exception each time: the traceback of a shared one grows with each raise.
            raise self.failure.again()

    # Announcing changes

    def _grow(self, received: int, size: int | None) -> None:
        self.size = size
        if size is not None:  # else the tail is not known: all bytes are held back
            self.visible = max(self.visible, min(received, size - TAIL))
        self._changes.notify()

    def _reveal(self, size: int) -> None:
        """Release the tail to followers: the digest is proven."""
        self.size = self.visible = size
        self.proven = True
        self._changes.notify()
