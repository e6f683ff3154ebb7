"""The floor: the failures that no policy with an empty cache can avoid."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.simulation.hub import Terms
from tests.simulation.trace import Job, Name, Outage, Trace


def unavoidable(trace: Trace, terms: Terms) -> int:
    """Return how many pulls fail at least, even by an oracle that knows the trace.

    There are two kinds. Within N windows of the first pull at most N limits can be spent, and each
    tag costs one manifest (two, for an index) before its first success: of the tags of a window,
    the ones with the fewest pulls are left out. Others behind the address have their part of the
    limit. And in an outage, pulls of tags that were never pulled before fail.
    """
    return max(_for_the_limit(trace, terms), _for_the_outages(trace))


def _for_the_limit(trace: Trace, terms: Terms) -> int:
    cost = 1 if trace.fleet.platforms == 1 else 2
    begin = next(trace.jobs).at
    asked: defaultdict[int, Counter[Name]] = defaultdict(Counter)
    for job in trace.jobs:
        # On a fixed grid the first two windows may be close together; so the oracle fails less.
        number = int((job.at - begin) // terms.window) + terms.fixed
        asked[number].update(pull.name for pull in job.pulls)
    failed = 0
    for number, names in asked.items():
        had = (terms.limit - trace.fleet.foreign) * (number + 1) // cost
        failed += sum(pulls for _, pulls in names.most_common()[had:])
    return failed


def _for_the_outages(trace: Trace) -> int:
    failed, down, known = 0, False, set[Name]()
    for event in trace.events:
        if isinstance(event, Outage):
            down = event.down
        elif isinstance(event, Job):
            names = [pull.name for pull in event.pulls]
            failed += sum(name not in known for name in names) if down else 0
            known.update(() if down else names)
    return failed
