"""The checks after a round. Each returns its findings, in words."""

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

OVERHEAD = 1.05  # of a blob's size: the bytes that upstream may send, cuts and stalls included
# Bytes in buffers and in both ends' sockets when a reader leaves (the third of tcp_wmem and of
# tcp_rmem in tcp(7)): on a loaded machine they fill up before the first read.
ON_ITS_WAY = 8 * 1024 * 1024
WITH_HEADERS = 8192  # bytes; a smaller body may arrive with its headers when a GET reads only those
THREADS = 40  # the store's 8, the loop's few, SQLite's one, and as many again
OTHER_DESCRIPTORS = 6  # more than at the start: the index's log and its companion
ACCOUNTED_WITHIN = 256 * 1024  # bytes; the index and its log change during the count
_BLOCK = 4096
_ERRORS = frozenset({429, 502, 503, 504})  # statuses that are honest in any case
_ALARMS = ("Traceback (most recent call last)", "never retrieved", "unexpected failure of")


@dataclass(frozen=True)
class Circumstances:
    """The circumstances by which a round's outcomes are judged.

    `held` are the (digest, repository) pairs that were kept throughout the round, `tags` the
    digests of the daemon's tags, by repository, at its beginning. `struck` returns the digest that
    a fault is for; `dead_between` tells whether the daemon was dead between two moments.
    """

    plan: RoundPlan
    held: frozenset[tuple[str, str]]
    struck: Callable[[FaultPlan], str | None]
    dead_between: Callable[[float, float], bool]
    tags: Mapping[str, str] = field(default_factory=dict)

    def may_fail(self, outcome: Outcome) -> bool:
        """Tell whether the plan explains an error, or a broken body.

        Kept content fails only by the daemon's death; a kept tag, also by the registry's 404.
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
        """Tell whether the plan breaks a blob off twice and also refuses its ranges.

        The mirror requests the whole blob anew only once, for each attempt costs all its bytes.
        """
        faults = [fault for fault in self.plan.faults if self.struck(fault) == digest]
        refused = any(fault.trouble in ("no_range", "bad_range") for fault in faults)
        return refused and sum(each.times for each in faults if each.trouble in BREAKS) > 1

    def kept(self, outcome: Outcome) -> bool:
        """Tell whether the requested content was kept throughout the round."""
        home = repository(outcome.tag)
        digest = self.tags.get(home, "") if outcome.kind == "tag" else outcome.digest
        return (digest, home) in self.held

    def disowned(self, outcome: Outcome) -> bool:
        """Tell whether the registry was to answer a tag with 404, which is a true answer."""
        return outcome.kind == "tag" and self._mistaken(outcome, "404")

    def honest(self, outcome: Outcome) -> bool:
        """Tell whether a refusal is upstream's, or true without upstream."""
        match outcome.status:
            case 404:
                return self._mistaken(outcome, "404")
            case 403:
                denied = any(each.status in (401, 403) for each in self.plan.denials)
                return denied or any(self._mistaken(outcome, each) for each in ("401", "403"))
        return outcome.status in _ERRORS

    def _mistaken(self, outcome: Outcome, trouble: str) -> bool:
        """Tell whether the plan has the registry deny this blob, or all manifests."""
        return any(
            fault.trouble == trouble
            and (outcome.kind != "blob" if fault.blob is None else self._strikes(fault, outcome))
            for fault in self.plan.faults
        )

    def _strikes(self, fault: FaultPlan, outcome: Outcome) -> bool:
        return self.struck(fault) == outcome.digest

    def spoilt(self, digest: str) -> bool:
        """Tell whether the plan has upstream send wrong bytes of this blob."""
        return any(
            fault.trouble in SPOILS and self.struck(fault) == digest for fault in self.plan.faults
        )


def clients(outcomes: Iterable[Outcome], around: Circumstances) -> list[str]:
    """Check that bodies are right, failures are explained and honest, and no client hangs."""
    return [
        f"{why}: {outcome}" for outcome in outcomes if (why := _client(outcome, around)) is not None
    ]


def _client(outcome: Outcome, around: Circumstances) -> str | None:
    match outcome.end:
        case "complete" | "left":
            return None
        # The mirror cannot prove a range of a blob that is still arriving, nor the size that bounds
        # a range: only the client has the whole. The plan must have upstream spoil it, though.
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
    """Counts of the requests that ended while the daemon lived, and of the failed ones.

    `kept` and `kept_failed` count the requests for content that was kept throughout the round and
    that the registry did not answer with 404.
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
    """Count the requests that failed outside restarts; a client that left is not counted."""
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
    """Check that upstream sent no more than it had to; `sent` is in bytes, by digest.

    Without departures, deaths and evictions (`undisturbed`), upstream sends a blob once, and a kept
    blob never. Each time that it spoils the blob, refuses to resume it, or fails to confirm it by
    HEAD may cost one more body. Otherwise each request may cost a body: the blob may be evicted
    before the next request, or not kept for lack of room. Each kill and each outage may cost one
    more, for the bytes in the sockets are lost. Where room runs out midway, the rest is requested
    anew, and the bytes in the sockets come twice.
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
    # After a failed HEAD a GET decides, and a small body arrives with its headers.
    again = SPOILS | MISTAKES | REFUSALS | {"no_range", "bad_range", "no_head"}
    return sum(
        fault.times
        for fault in around.plan.faults
        if fault.trouble in again and around.struck(fault) == digest
    )


def undisturbed(plan: RoundPlan, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Tell whether the strict bound holds: without departures, deaths and evictions."""
    lost = ("mirror_evictions_total", "mirror_store_failures_total")
    return plan.mood in QUIET and all(before[name] == after[name] for name in lost)


def bound(most: int, max_size: int) -> list[str]:
    """Check that no sample of the disk is above `max_size`; both are in bytes."""
    return [f"the disk held {most} bytes, {max_size} are allowed"] if most > max_size else []


def files(folder: Path) -> list[str]:
    """Check that every kept file has the digest in its name."""
    found = disk.blobs(folder)
    return [
        f"{path} is kept and is {right}"
        for digest, path in found.items()
        if (right := disk.digest_of(path)) != digest
    ]


def index(folder: Path, known: Rows) -> list[str]:
    """Check that the index has a row for each kept file, with its size, and no other."""
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
    """Check that partials of an idle daemon can be resumed, and are no second copies.

    `known` are the names of partials that hostile upstreams of earlier rounds left.
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
    """Check the daemon's account of all kept files and partials (`accounted`, in bytes).

    The index's log counts as at its largest (`wal`), also while it is smaller.
    """
    content = (*disk.blobs(folder).values(), *disk.partials(folder).values())
    rest = (p for p in folder.iterdir() if p.is_file() and not p.name.endswith("-wal"))
    true = wal + sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in (*content, *rest))
    if abs(true - accounted) <= ACCOUNTED_WITHIN:
        return []
    return [f"the daemon accounts for {accounted} bytes, the data folder holds {true}"]


def leaks(at_start: Descriptors, now: Descriptors, threads: int) -> list[str]:
    """Check an idle daemon: no open content, no connection, few threads."""
    wrong = [f"{target} is still open" for target in now.content]
    if now.sockets > at_start.sockets:
        wrong.append(f"{now.sockets} sockets are open, {at_start.sockets} were at the start")
    if now.others > at_start.others + OTHER_DESCRIPTORS:
        wrong.append(f"{now.others} other descriptors, {at_start.others} were at the start")
    if threads > THREADS:
        wrong.append(f"{threads} threads")
    return wrong


def log(said: str) -> list[str]:
    """Check that the daemon's log (`said`) has no unexpected error."""
    lines = said.splitlines()
    return [
        "the daemon wrote:\n    " + "\n    ".join(lines[max(at - 1, 0) : at + 25])
        for at, line in enumerate(lines)
        if any(alarm in line for alarm in _ALARMS)
    ][:3]
