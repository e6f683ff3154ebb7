"""The judge: answers that a mirror's client must get or must not get, and their cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.differential.content import TAG, content
from tests.differential.plain import Got
from tests.differential.scene import Kind, Scene
from tests.differential.upstream import Seen
from tests.standin.blobs import digest_of

SLACK = 64 * 1024  # bytes of a blob beyond twice its size: proofs, and bytes in sockets at the end
PER_VISIT = 3  # times the plain client's useless bytes or pulls, for each client that asks
REQUESTS = 10  # times the plain client's, for each client
_HOURS = 10  # s; a longer Retry-After is obeyed, even once upstream is well
_ITEMS: dict[Kind, str] = {
    "tag": "tag", "digest": "manifest", "blob": "blob", "content": "blob", "tags": "tags",
    "referrers": "referrers",
}  # fmt: skip


def required(scene: Scene, known: tuple[Got, Got, Got], got: Got) -> Got:
    """Return the items that a mirror's client must get: the plain client's, and stored content.

    `known` are the items of plain clients: as upstream deviates, when it is well, and before. A
    list that the first client got in part is required of no client. If the tag has moved since it
    was stored, either image is right, and all of that image is required.
    """
    direct, truth, before = known
    direct = Got({name: body for name, body in direct.items.items() if _whole(name, body, truth)})
    if not scene.warm:
        return direct
    kept = {name: body for name, body in before.items.items() if _is_content(name)}
    if any(_gone(scene)):
        kept = {name: body for name, body in kept.items() if not name.startswith("tag ")}
    if not scene.moves:
        return Got(kept | direct.items)
    new = {_home(name) for name, body in got.items.items() if _has_moved(name, body, before)}
    items = {name: body for name, body in kept.items() if _home(name) not in new}
    items |= {name: body for name, body in direct.items.items() if _home(name) in new}
    return Got(items)


def lasting(scene: Scene, wanted: Got) -> Got:
    """Return the items required after a restart, too: content is stored, lists are asked for anew.

    A deviation that is limited to some times may be over by then.
    """
    if all(each.times is None for each in scene.deviations):
        return wanted
    return Got({name: body for name, body in wanted.items.items() if _is_content(name)})


def _gone(scene: Scene) -> Iterator[bool]:
    """Tell of each deviation whether it is the registry's denial of a tag."""
    for each in scene.deviations:
        yield each.kind == "tag" and each.status == 404 and each.method != "HEAD" and not each.away


def _is_content(name: str) -> bool:
    return name.startswith(("tag ", "manifest ", "blob "))


def _whole(name: str, body: bytes, truth: Got) -> bool:
    return _is_content(name) or truth.items.get(name) == body


def _home(name: str) -> str:
    return name.split(" ")[1]


def _has_moved(name: str, body: bytes, before: Got) -> bool:
    return name.startswith("tag ") and body != before.items.get(name)


def lacking(when: str, wanted: Got, got: Got) -> list[str]:
    """Name the missing items, each with the answer that the client got instead."""
    return [
        f"{when}: no {name}: {got.why.get(name, 'not reached')}"
        for name, body in wanted.items.items()
        if not name.startswith("head ") and got.items.get(name) != body
    ]


def lies(got: Got, *right: Got) -> list[str]:
    """Name the complete items that are wrong: other bytes, or part of a list for the whole.

    `right` are the clients' items that are right.
    """
    false = [
        f"a wrong {name}"
        for name, body in got.items.items()
        if (known := [each.items[name] for each in right if name in each.items])
        and body not in known
    ]
    heads = [(name, body) for name, body in got.items.items() if name.startswith("head ")]
    told = {digest_of(body) for each in right for name, body in each.items.items() if _by_tag(name)}
    false += [f"a wrong {name}" for name, digest in heads if digest.decode() not in told]
    return false + [f"completed, and wrong: {name}" for name in got.wrong]


def _by_tag(name: str) -> bool:
    return name.startswith("tag ") and name.endswith(f" {TAG}")


def healing(scene: Scene, truth: Got) -> Got:
    """Return the items required once upstream is well: all except items put off for hours."""
    away = tuple(
        _ITEMS[each.kind] + " "
        for each in scene.deviations
        if each.status == 429 and each.kind in _ITEMS and _long(dict(each.headers))
    )
    return Got({name: body for name, body in truth.items.items() if not name.startswith(away)})


def _long(headers: dict[str, str | None]) -> bool:
    wait = headers.get("Retry-After") or ""
    return wait.isdigit() and int(wait) > _HOURS


def cost(
    scene: Scene, plain: Sequence[Seen], mirrored: Sequence[Seen], direct: Got, visits: int
) -> list[str]:
    """Bound the mirror's questions to upstream for all its clients' `visits`, before it was well.

    A manifest that the plain client gets is pulled at most once more than by that client; if tags
    are revalidated each time (`tag_ttl` 0), that often for each visit. A manifest that the client
    does not get costs up to PER_VISIT pulls a visit. Of a blob that the client gets, at most twice
    the blob's bytes are sent, or twice the bytes sent to the client; of a blob that it does not
    get, PER_VISIT times those bytes for each visit. All questions together are at most REQUESTS
    times the client's.
    """
    wrong = [
        *_pulls(scene, plain, mirrored, direct, visits),
        *_bytes(scene, plain, mirrored, direct, visits),
    ]
    most = REQUESTS * (visits + 1) * len(plain)
    if len(mirrored) > most:
        wrong.append(f"{len(mirrored)} questions, {most} are due: {_summary(mirrored)}")
    return wrong


def _pulls(
    scene: Scene, plain: Sequence[Seen], mirrored: Sequence[Seen], direct: Got, visits: int
) -> Iterator[str]:
    ours, theirs = _counted(mirrored), _counted(plain)
    had = _had(direct, "manifest ")
    each = visits if scene.tag_ttl == 0 else 1
    for digest, count in ours.items():
        most = theirs[digest] * each + 1 if digest in had else PER_VISIT * visits
        if count > most:
            yield f"{count} pulls of {digest[:19]}, {most} are due: {_summary(mirrored)}"


def _counted(seen: Iterable[Seen]) -> Counter[str]:
    return Counter(each.digest for each in seen if each.counted)


def _bytes(
    scene: Scene, plain: Sequence[Seen], mirrored: Sequence[Seen], direct: Got, visits: int
) -> Iterator[str]:
    blobs = content(scene.image, scene.manner).blobs
    ours, theirs = _sent(mirrored), _sent(plain)
    had = _had(direct, "blob ")
    for digest, count in ours.items():
        size = len(blobs.get(digest, b""))
        most = 2 * max(theirs[digest], size)
        if digest not in had:
            most = PER_VISIT * visits * max(theirs[digest], size)
        if count > most + SLACK:
            yield f"{count} bytes of {digest[:19]}, {most} are due: {_summary(mirrored)}"


def _had(direct: Got, kind: str) -> set[str]:
    return {name.rpartition(" ")[2] for name in direct.items if name.startswith(kind)}


def _sent(seen: Iterable[Seen]) -> Counter[str]:
    sent: Counter[str] = Counter()
    for each in seen:
        if each.kind in ("blob", "content"):
            sent[each.reference] += each.sent
    return sent


def _summary(seen: Iterable[Seen]) -> str:
    counts = Counter(f"{each.method} {each.kind} {each.status}" for each in seen)
    return ", ".join(f"{count} times {what}" for what, count in counts.most_common(8))
