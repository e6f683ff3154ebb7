"""Stats: the journal in numbers, for other processes."""

from collections import Counter
from typing import Any

from .journal import Journal, Seen


def is_body(seen: Seen) -> bool:
    """Tell whether the answer to this request began to send a blob's bytes."""
    begun = seen.digest is not None and seen.status in (200, 206)
    return begun and seen.kind == "blob" and seen.method == "GET"


def summary(journal: Journal) -> dict[str, Any]:
    """Return the counts of requests and bytes."""
    bodies: Counter[str] = Counter()
    blob_bytes: Counter[str] = Counter()
    for seen in filter(is_body, journal.entries):
        bodies[str(seen.digest)] += 1
        blob_bytes[str(seen.digest)] += seen.bytes_sent
    counts = Counter((s.port, s.kind, s.method, s.status) for s in journal.entries)
    return {
        "requests": [
            {"port": port, "kind": kind, "method": method, "status": status, "count": count}
            for (port, kind, method, status), count in counts.items()
        ],
        "pulls": sum(seen.counted for seen in journal.entries),
        "bodies": bodies,
        "bytes": blob_bytes,
        "total_bytes": sum(seen.bytes_sent for seen in journal.entries),
        "under_way": sum(not seen.finished for seen in journal.entries),
    }
