"""The report: one line per round, the findings, and the command to replay them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.torture.checks import Failures
from tests.torture.rounds import Counted

HEAD = (
    "round  mood    clients:whole  refused  cut  unproven  left  kills  to clients  from upstream"
    "  bound   evicted  kept  partial    disk/bound  s"
)
_DIGEST = re.compile("sha256:[0-9a-f]{12}")  # the part that an outcome shows
_MIB = 1024 * 1024
_SHOWN = 20  # findings
_LOGGED = 40  # lines of the daemon's log


def line(counted: Counted) -> str:
    """Write the line of a round."""
    plan, ends = counted.plan, counted.ends
    disk = f"{counted.most / _MIB:.1f}/{plan.max_size / _MIB:.1f}"
    return (
        f"{plan.number:5}  {plan.mood:6}  {ends['complete']:13}  {ends['refused']:7}"
        f"  {ends['cut']:3}  {ends['unproven']:8}  {ends['left']:4}  {len(plan.kills):5}"
        f"  {counted.received / _MIB:6.1f} MiB  {counted.sent / _MIB:9.1f} MiB"
        f"  {'strict' if counted.strict else 'loose':6}"
        f"  {counted.evicted:7}  {counted.kept:4}  {counted.partials:7}  {disk:>12}"
        f"  {counted.seconds:.1f}"
    )


def failure(seed: int, counted: Counted, only: Sequence[str] = ()) -> str:
    """Write a round's findings, and the command to replay it, with the same troubles `only`."""
    narrowed = f' ONLY="{" ".join(only)}"' if only else ""
    wrong = counted.wrong
    more = [f"  … and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return "\n".join(
        [
            f"seed {seed}, round {counted.plan.number} ({counted.plan.mood}): wrong",
            *(f"  {each}" for each in wrong[:_SHOWN]),
            *more,
            *_logged(counted),
            f"replay: make torture SEED={seed} ROUNDS={counted.plan.number + 1}{narrowed}",
        ]
    )


def _logged(counted: Counted) -> list[str]:
    """Pick the log lines about the digests in the findings."""
    named = set(_DIGEST.findall("\n".join(counted.wrong)))
    lines = [each for each in counted.said.splitlines() if named & set(_DIGEST.findall(each))]
    return ["  the daemon wrote of these:", *(f"    {each}" for each in lines[-_LOGGED:])]


def summary(seed: int, rounds: list[Counted]) -> str:
    """Add all rounds up."""
    complete = sum(each.ends["complete"] for each in rounds)
    kills = sum(len(each.plan.kills) for each in rounds)
    faults = sum(fault.times for each in rounds for fault in each.plan.faults)
    failures = sum((each.failures for each in rounds), Failures())
    return (
        f"seed {seed}: {len(rounds)} rounds, {complete} bodies and tags right, {faults} faults "
        f"planned, {kills} kills, {sum(each.evicted for each in rounds)} evictions, "
        f"{sum(each.samples for each in rounds)} looks at the disk\n"
        "requests failed outside restarts: "
        f"{_share(failures.kept_failed, failures.kept)} of what was kept, "
        f"{_share(failures.failed, failures.ended)} of all"
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.2f} % ({part} of {whole})"
