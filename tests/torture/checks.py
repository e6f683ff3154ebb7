"""The checks: what must hold after a round. Each returns what is wrong, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.standin import Blob
from tests.torture import disk
from tests.torture.clients import Outcome
from tests.torture.disk import Descriptors, Rows
from tests.torture.plan import QUIET, REFUSALS, SPOILS, FaultPlan, RoundPlan
from tests.torture.world import repository

OVERHEAD = 1.05  # of a blob: what upstream may send of it in all, cuts and stalls included
THREADS = 40  # the store's 8, the loop's own few, SQLite's one, and as many again
OTHER_DESCRIPTORS = 6  # beside those at the start: the index's log and its companion
ACCOUNTED_WITHIN = 256 * 1024  # bytes; the index and its log change while they are counted
_BLOCK = 4096
_ERRORS = frozenset({429, 502, 503, 504})
_ALARMS = ("Traceback (most recent call last)", "in a way nobody foresaw", "never retrieved")


@dataclass(frozen=True)
class Circumstances:
    """What a round's outcomes are judged by.

    `held` are the (digest, repository) pairs that were kept from its beginning to its end;
    `struck` tells which blob a fault is for, `dead_between` whether the daemon was killed between
    two moments.
    """

    plan: RoundPlan
    held: frozenset[tuple[str, str]]
    struck: Callable[[FaultPlan], str | None]
    dead_between: Callable[[float, float], bool]

    def may_fail(self, outcome: Outcome) -> bool:
        """Tell whether the plan explains that a client got an error, or half a body."""
        if self.dead_between(outcome.began, outcome.ended):
            return True
        if self.spoilt(outcome.digest):
            return True
        if (outcome.digest, repository(outcome.tag)) in self.held:
            return False
        return bool(self.plan.outages) or any(
            fault.trouble in REFUSALS for fault in self.plan.faults
        )

    def spoilt(self, digest: str) -> bool:
        """Tell whether upstream was to send wrong bytes of this blob."""
        return any(
            fault.trouble in SPOILS and self.struck(fault) == digest for fault in self.plan.faults
        )


def clients(outcomes: Iterable[Outcome], around: Circumstances) -> list[str]:
    """Every completed body is right, every failure is explained and honest, nobody hangs."""
    return [
        f"{why}: {outcome}" for outcome in outcomes if (why := _client(outcome, around)) is not None
    ]


def _client(outcome: Outcome, around: Circumstances) -> str | None:
    match outcome.end:
        case "complete" | "left":
            return None
        # A part of a blob on its way is proven by nobody, nor is the size that a range must lie
        # within: only the client knows the whole. Upstream must have spoilt it, though.
        case "unproven" if around.spoilt(outcome.digest):
            return None
        case "wrong" | "unproven":
            return "a client completed on what is wrong"
        case "hung":
            return "a client hung"
        case "refused" if outcome.status not in _ERRORS:
            return "an error that is not honest"
    return None if around.may_fail(outcome) else "a failure that nothing explains"


def upstream(
    sent: Mapping[str, int],
    blobs: Mapping[str, Blob],
    outcomes: Iterable[Outcome],
    around: Circumstances,
    *,
    undisturbed: bool,
) -> list[str]:
    """Upstream sent no more than it had to: `sent` in bytes, by digest.

    Where nobody left, died or was evicted (`undisturbed`), a blob comes once, plus once for each
    time that upstream spoilt it or could not resume it, and not at all if it was kept. Else each
    request of a client may cost one: what it wanted may be gone again before the next one comes,
    or may not have been kept at all for lack of room. A kill and an outage lose what is on its way:
    upstream handed it to a socket whose other end never reads it, so each may cost one too.
    """
    lost = len(around.plan.kills) + len(around.plan.outages)
    asked = Counter(outcome.digest for outcome in outcomes if outcome.kind == "blob")
    kept = {digest for digest, _ in around.held}
    wrong = []
    for digest, count in sent.items():
        bodies = 1 if undisturbed else max(asked[digest], 1) + lost
        bodies = 0 if undisturbed and digest in kept else bodies + _forced(digest, around)
        most = int(bodies * blobs[digest].size * OVERHEAD)
        if count > most:
            wrong.append(f"upstream sent {count} bytes of {blobs[digest]}, at most {most} are due")
    return wrong


def _forced(digest: str, around: Circumstances) -> int:
    again = SPOILS | {"no_range"}
    return sum(
        fault.times
        for fault in around.plan.faults
        if fault.trouble in again and around.struck(fault) == digest
    )


def undisturbed(plan: RoundPlan, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Tell whether the strict bound holds: nobody left or died, all was kept."""
    lost = ("mirror_evictions_total", "mirror_store_failures_total")
    return plan.mood in QUIET and all(before[name] == after[name] for name in lost)


def bound(most: int, max_size: int) -> list[str]:
    """The disk was within `max_size`, at all sampled times; both in bytes."""
    return [f"the disk held {most} bytes, {max_size} are allowed"] if most > max_size else []


def files(folder: Path) -> list[str]:
    """Every kept file is what its name says."""
    found = disk.blobs(folder)
    return [
        f"{path} is kept and is {right}"
        for digest, path in found.items()
        if (right := disk.digest_of(path)) != digest
    ]


def index(folder: Path, known: Rows) -> list[str]:
    """The index has a row for each kept file, with its size, and no other."""
    on_disk = {digest: path.stat().st_size for digest, path in disk.blobs(folder).items()}
    lacking = [f"{digest} is kept without a row" for digest in on_disk.keys() - known.sizes.keys()]
    gone = [f"{digest} has a row and no file" for digest in known.sizes.keys() - on_disk.keys()]
    other = [
        f"{digest} has {on_disk[digest]} bytes, its row says {size}"
        for digest, size in known.sizes.items()
        if on_disk.get(digest, size) != size
    ]
    return [*lacking, *gone, *other]


def partials(folder: Path, blobs: Mapping[str, Blob]) -> list[str]:
    """Whatever is in `partial/` while nothing is fetched can be resumed, and is no second copy."""
    kept = disk.blobs(folder)
    wrong = []
    for name, path in disk.partials(folder).items():
        digest = name.replace("-", ":", 1)
        if digest not in blobs:
            wrong.append(f"partial/{name} is nothing that is fetched")
        elif digest in kept:
            wrong.append(f"partial/{name} was left although the blob is kept")
        elif path.stat().st_size > blobs[digest].size:
            wrong.append(f"partial/{name} is larger than {blobs[digest]}")
    return wrong


def books(folder: Path, accounted: int, wal: int) -> list[str]:
    """The daemon accounts for each kept file and partial; `accounted` is its own figure, in bytes.

    It counts the index's log as at its largest (`wal`), whatever it is.
    """
    content = (*disk.blobs(folder).values(), *disk.partials(folder).values())
    rest = (p for p in folder.iterdir() if p.is_file() and not p.name.endswith("-wal"))
    true = wal + sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in (*content, *rest))
    if abs(true - accounted) <= ACCOUNTED_WITHIN:
        return []
    return [f"the daemon accounts for {accounted} bytes, the data folder holds {true}"]


def leaks(at_start: Descriptors, now: Descriptors, threads: int) -> list[str]:
    """Nobody is served and nothing fetched: no content is open, no connection, few threads."""
    wrong = [f"{target} is still open" for target in now.content]
    if now.sockets > at_start.sockets:
        wrong.append(f"{now.sockets} sockets are open, {at_start.sockets} were at the start")
    if now.others > at_start.others + OTHER_DESCRIPTORS:
        wrong.append(f"{now.others} other descriptors, {at_start.others} were at the start")
    if threads > THREADS:
        wrong.append(f"{threads} threads")
    return wrong


def log(said: str) -> list[str]:
    """The daemon met nothing that it did not foresee; `said` is all it wrote."""
    lines = said.splitlines()
    return [
        "the daemon wrote:\n    " + "\n    ".join(lines[max(at - 1, 0) : at + 25])
        for at, line in enumerate(lines)
        if any(alarm in line for alarm in _ALARMS)
    ][:3]
