"""The requests that the statistics count: requests with a repository."""

from __future__ import annotations

from mirror.content.outcome import Outcome
from mirror.statistics.recent import NoHit
from mirror.statistics.recorder import Recorder
from mirror.web.observability.access_log import Line
from mirror.web.reply import Reply
from mirror.web.router import BlobPath, ManifestPath, ReferrersPath, RepositoryPath, TagsPath

_COUNTED = ("manifest", "blob")
_WHY = {"miss": "not stored yet", "revalidated": "due to be confirmed by upstream"}


class RequestFigures:
    """Hands each reply to the recorder, once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<RequestFigures of {self._recorder!r}>"

    def add(self, route: RepositoryPath, line: Line, reply: Reply) -> None:
        """Count a request with its reply; the mirror's own refusals only as recent requests."""
        if line.outcome != "own" and line.kind in _COUNTED:
            good = line.status < 400
            client = line.client if line.user == "-" else line.user
            pulls = int(good and line.kind == "manifest" and line.method == "GET")
            self._count(route, line, client, pulls, line.sent if good else 0, line.seconds)
        if reply.outcome is not Outcome.HIT:
            self._remember(route, line, reply)

    def add_hit(
        self, route: RepositoryPath, hit: Line, client: str, sent: int, seconds: float
    ) -> None:
        """Hand on a hit for a client without a user; `hit` is the line of an equal request."""
        pulls = int(hit.kind == "manifest" and hit.method == "GET")
        self._count(route, hit, client, pulls, sent, seconds)

    def _count(
        self, route: RepositoryPath, line: Line, client: str, pulls: int, sent: int, seconds: float
    ) -> None:
        counts = self._recorder.counts(route.repository.upstream)
        counts.add(line.kind, line.outcome, sent, seconds)
        if pulls or sent:  # made-up names get neither
            self._recorder.top.add(line.repository, client, pulls, sent)

    def _remember(self, route: RepositoryPath, line: Line, reply: Reply) -> None:
        if reply.outcome is None and line.status < 400:
            return
        self._recorder.recent.add(
            NoHit(
                at=line.at,
                client=line.client,
                user="" if line.user == "-" else line.user,
                image=_image(route),
                method=line.method,
                status=line.status,
                outcome="refused" if reply.outcome is None else line.outcome,
                cause=line.cause or reply.why or _WHY.get(line.outcome, ""),
                sent=line.sent,
                seconds=line.seconds,
                request=line.request,
            )
        )


def _image(route: RepositoryPath) -> str:
    """Return the name of the requested content."""
    repository = route.repository
    match route:
        case ManifestPath(reference=reference):
            return f"{repository}{'@' if ':' in reference else ':'}{reference}"
        case BlobPath(digest=digest) | ReferrersPath(digest=digest):
            return f"{repository}@{digest}"
        case TagsPath():
            return f"{repository} (tags)"
    return str(repository)
