"""A client's request for a blob: the findings about it, and whether a failure is its own."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.content.blobs.followers import Follower
from mirror.content.blobs.passthrough import PassThroughBody
from mirror.content.blobs.progress import Preempted
from mirror.oci.digest import Digest
from mirror.oci.errors import ContentWrong, RegistryError, UpstreamMisbehaved, may_pass
from mirror.oci.names import Repository

_OTHERS_FAILURES = 2  # fetches begun by other requests, of which a client is not told the failures


@dataclass(slots=True)
class ClientRequest:
    """A client's request, and the findings about it.

    `proof` is the size, in bytes, under which upstream said that the repository has the blob.
    """

    upstream: PassThroughBody
    repository: Repository
    digest: Digest
    proof: int | None = None
    asked: bool = False  # upstream was, about the stored blob
    failures: int = 0  # of fetches that other requests began

    def retries(self, failure: RegistryError, follower: Follower) -> bool:
        """Whether a failure may be about another request, so that one more fetch is tried.

        A fetch that ran before may fail at another request's question. A failure that says nothing
        of this repository is another's, unless upstream gives it to every request.
        """
        refusal = follower.refusal
        others = refusal is None and isinstance(failure, ContentWrong | UpstreamMisbehaved)
        shared = follower.joined and may_pass(failure)
        again = isinstance(refusal, Preempted) or others or shared
        self.failures += 1
        if refusal is not None and not isinstance(refusal, Preempted):
            self.proof = None  # upstream's newer word
            return again and self.failures < _OTHERS_FAILURES
        return again and self.failures <= _OTHERS_FAILURES
