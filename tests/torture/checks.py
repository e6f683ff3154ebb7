"""The checks: what must hold after a round. Each returns what is wrong, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.standin import Blob
from tests.torture import disk
from tests.torture.clients import Outcome
from tests.torture.disk import Descriptors, Rows
from tests.torture.plan import BREAKS, MISTAKES, QUIET, REFUSALS, SPOILS, FaultPlan, RoundPlan
from tests.torture.world import repository

OVERHEAD = 1.05  # of a blob: what upstream may send of it in all, cuts and stalls included
# Bytes in the sockets of both ends and in buffers when a body is left (the third of tcp_wmem and of
# tcp_rmem in tcp(7)): on a loaded machine they are filled before anybody reads.
ON_ITS_WAY = 8 * 1024 * 1024
WITH_HEADERS = 8192  # bytes; a smaller body may come with a GET that asks for its headers only
THREADS = 40  # the store's 8, the loop's own few, SQLite's one, and as many again
OTHER_DESCRIPTORS = 6  # beside those at the start: the index's log and its companion
ACCOUNTED_WITHIN = 256 * 1024  # bytes; the index and its log change while they are counted
_BLOCK = 4096
_ERRORS = frozenset({429, 502, 503, 504})  # whose words are always true
_ALARMS = ("Traceback (most recent call last)", "never retrieved", "unexpected failure of")


@dataclass(frozen=True)
class Circumstances:
    """What a round's outcomes are judged by.

    `held` are the (digest, repository) pairs that were kept from its beginning to its end, `tags`
    what the tags of repositories meant to the daemon at its beginning; `struck` tells which blob a
    fault is for, `dead_between` whether the daemon was killed between two moments.
    """

    plan: RoundPlan
    held: frozenset[tuple[str, str]]
    struck: Callable[[FaultPlan], str | None]
    dead_between: Callable[[float, float], bool]
    tags: Mapping[str, str] = field(default_factory=dict)

    def may_fail(self, outcome: Outcome) -> bool:
        """Tell whether the plan explains that a client got an error, or half a body.

        Of content that was kept nothing does but the daemon's death, and of a kept tag that the
        registry says of it that there is none.
        """
        if self.dead_between(outcome.began, outcome.ended):
            return True
        if self.kept(outcome):
            return self.disowned(outcome)
        if self.spoilt(outcome.digest) or self.plan.outages or self.plan.denials:
            return True
        if any(fault.trouble in REFUSALS for fault in self.plan.faults):
            return True
        if self._breaks_without_ranges(outcome.digest):
            return True
        return any(self._mistaken(outcome, trouble) for trouble in MISTAKES)

    def _breaks_without_ranges(self, digest: str) -> bool:
        """Tell whether a blob was to break off twice where its ranges are refused, too.

        The whole is asked for anew but once: it would be sent again and again.
        """
        faults = [fault for fault in self.plan.faults if self.struck(fault) == digest]
        refused = any(fault.trouble in ("no_range", "bad_range") for fault in faults)
        return refused and sum(each.times for each in faults if each.trouble in BREAKS) > 1

    def kept(self, outcome: Outcome) -> bool:
        """Tell whether what a client asked for was here all the time."""
        home = repository(outcome.tag)
        digest = self.tags.get(home, "") if outcome.kind == "tag" else outcome.digest
        return (digest, home) in self.held

    def disowned(self, outcome: Outcome) -> bool:
        """Tell whether the registry was to say of a tag that there is none: that is an answer."""
        return outcome.kind == "tag" and self._mistaken(outcome, "404")

    def honest(self, outcome: Outcome) -> bool:
        """Tell whether a client was refused in words that are upstream's, or true without it."""
        match outcome.status:
            case 404:
                return self._mistaken(outcome, "404")
            case 403:
                denied = any(each.status in (401, 403) for each in self.plan.denials)
                return denied or any(self._mistaken(outcome, each) for each in ("401", "403"))
        return outcome.status in _ERRORS

    def _mistaken(self, outcome: Outcome, trouble: str) -> bool:
        """Tell whether the registry was to deny just this: a blob, or manifests, of any name."""
        return any(
            fault.trouble == trouble
            and (outcome.kind != "blob" if fault.blob is None else self._strikes(fault, outcome))
            for fault in self.plan.faults
        )

    def _strikes(self, fault: FaultPlan, outcome: Outcome) -> bool:
        return self.struck(fault) == outcome.digest

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
        case "refused" if not around.honest(outcome):
            return "an error that is not honest"
    return None if around.may_fail(outcome) else "a failure that nothing explains"


@dataclass(frozen=True)
class Failures:
    """How many requests ended while the daemon lived, and how many of them failed.

    `kept` and `kept_failed` are those for what was here from the round's beginning to its end, and
    that the registry did not say there is none of.
    """

    ended: int = 0
    failed: int = 0
    kept: int = 0
    kept_failed: int = 0

    def __add__(self, other: Failures) -> Failures:
        """Add another round's."""
        return Failures(
            self.ended + other.ended,
            self.failed + other.failed,
            self.kept + other.kept,
            self.kept_failed + other.kept_failed,
        )


def failures(outcomes: Iterable[Outcome], around: Circumstances) -> Failures:
    """Count the requests that failed outside restarts; who leaves of his own will does not."""
    lived = [
        outcome
        for outcome in outcomes
        if outcome.end != "left" and not around.dead_between(outcome.began, outcome.ended)
    ]
    kept = [each for each in lived if around.kept(each) and not around.disowned(each)]
    return Failures(len(lived), _failed(lived), len(kept), _failed(kept))


def _failed(outcomes: Iterable[Outcome]) -> int:
    return sum(outcome.end != "complete" for outcome in outcomes)


def upstream(
    sent: Mapping[str, int],
    blobs: Mapping[str, Blob],
    outcomes: Iterable[Outcome],
    around: Circumstances,
    *,
    undisturbed: bool,
) -> list[str]:
    """Upstream sent no more than it had to: `sent` in bytes, by digest.

    Where nobody left, died or was evicted (`undisturbed`), a blob comes once, and not at all if it
    was kept; plus once for each time that upstream spoilt it, would not resume it, or did not say
    by HEAD that it has it. Else each
    request of a client may cost one: what it wanted may be gone again before the next one comes,
    or may not have been kept at all for lack of room. A kill and an outage lose what is on its way:
    upstream handed it to a socket whose other end never reads it, so each may cost one too. Where
    room runs out midway the rest is asked for anew, and what was on its way comes twice.
    """
    lost = len(around.plan.kills) + len(around.plan.outages)
    asked = Counter(outcome.digest for outcome in outcomes if outcome.kind == "blob")
    kept = {digest for digest, _ in around.held}
    wrong = []
    for digest, count in sent.items():
        bodies = 1 if undisturbed else max(asked[digest], 1) + lost
        bodies = 0 if undisturbed and digest in kept else bodies
        bodies += _forced(digest, around)
        size = blobs[digest].size
        most = int(bodies * size * OVERHEAD) + (size if bodies and size < WITH_HEADERS else 0)
        if not undisturbed:
            most += bodies * min(ON_ITS_WAY, size // 2)
        if count > most:
            wrong.append(f"upstream sent {count} bytes of {blobs[digest]}, at most {most} are due")
    return wrong


def _forced(digest: str, around: Circumstances) -> int:
    # A HEAD that fails lets a GET decide, and a small body comes with its headers.
    again = SPOILS | MISTAKES | REFUSALS | {"no_range", "bad_range", "no_head"}
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


def partials(folder: Path, blobs: Mapping[str, Blob], known: Collection[str] = ()) -> list[str]:
    """Whatever is in `partial/` while nothing is fetched can be resumed, and is no second copy.

    Those `known` by name are what hostile upstreams of rounds before have left.
    """
    kept = disk.blobs(folder)
    wrong = []
    for name, path in disk.partials(folder).items():
        digest = name.replace("-", ":", 1)
        if name in known:
            continue
        if digest not in blobs:
            wrong.append(f"partial/{name} is nothing that is fetched")
        elif digest in kept:
            wrong.append(f"partial/{name} was left although the blob is kept")
        elif path.stat().st_size > blobs[digest].size:
            wrong.append(f"partial/{name} is larger than {blobs[digest]}")
    return wrong


def accounting(folder: Path, accounted: int, wal: int) -> list[str]:
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
