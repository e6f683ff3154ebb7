"""The attacks: what clients say, and what the upstream answers meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fuzz.plays import Ask, Body, Lie, Part, Talk, Trap

LARGE = Body("annotations", 3_900_000)  # of a manifest: nearly as large as one may be
WARM = Body("image", 2)
_CLAIM = 40 * 1024**3  # bytes
_CHUNKS = b"GET /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Attack:
    """One attack: what is said on raw connections, or how an upstream traps clients."""

    name: str
    what: str
    talk: Talk | None = None
    trap: Trap | None = None


def _silent(kind: str, method: str = "any") -> Lie:
    return Lie(kind, method, line=b"", then="hangs")  # type: ignore[arg-type]


ATTACKS = (
    Attack("none", "no attack"),
    Attack(
        "chunks",
        "request bodies of 1-byte chunks, 30 connections",
        Talk((Part(_CHUNKS), Part(b"1\r\nX\r\n", 10_000_000)), 30),
    ),
    Attack(
        "readers",
        "100 readers that take nothing of a manifest of 3.9 MB",
        trap=Trap((Ask("tag"), Ask("tag", 100, "nothing")), document=LARGE),
    ),
    Attack(
        "claim",
        "20 blobs with a Content-Length of 40 GiB each, and no body",
        trap=Trap(
            (Ask("made up", 20),),
            (
                Lie("blob", "HEAD", body=Body("zeros"), claim=_CLAIM),
                Lie("blob", "GET", body=Body("zeros"), claim=_CLAIM, stop=0, then="hangs"),
            ),
        ),
    ),
    Attack(
        "silence",
        "an upstream that never answers, 40 blobs and 40 tags requested from it",
        trap=Trap(
            (Ask("made up", 40), Ask("manifests", 40)),
            (_silent("blob"), _silent("tag")),
        ),
    ),
)
