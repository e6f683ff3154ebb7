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
        self.count(route, line)
        if reply.outcome is not Outcome.HIT:
            self._remember(route, line, reply)

    def count(self, route: RepositoryPath, line: Line) -> None:
        """Count an answered request."""
        outcome, kind = line.outcome, line.kind
        if outcome != "own" and kind in _COUNTED:
            good = line.status < 400
            sent = line.sent if good else 0
            self._recorder.counts(route.repository.upstream).add(kind, outcome, sent, line.seconds)
            pulls = int(good and kind == "manifest" and line.method == "GET")
            if pulls or sent:  # made-up names get neither
                client = line.client if line.user == "-" else line.user
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
