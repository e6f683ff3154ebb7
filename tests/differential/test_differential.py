"""Each manner of client gets through the mirror all that a plain client gets directly."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.differential import judge
from tests.differential.__main__ import report
from tests.differential.content import APP, TAG, content
from tests.differential.plain import Got
from tests.differential.scene import Deviation, Manner, Scene, read
from tests.differential.search import Found, shrunk, tried
from tests.differential.upstream import Seen
from tests.standin.blobs import digest_of

SEED = 7
EXAMPLES = 20  # of each manner; `make differential` tries others, for any time


@pytest.mark.parametrize("manner", get_args(Manner))
def test_content_had_directly_is_had_through_the_mirror(manner: Manner) -> None:
    number = SEED + get_args(Manner).index(manner)  # different examples for each manner
    found = tried(number, EXAMPLES, manner, go_on=lambda: True)
    assert not found, "\n".join(map(report, found))


# The judge, with checks that can fail


NAME = f"blob {APP} sha256:0"
RIGHT = Got({NAME: b"right", f"tags {APP}": b"[1, 2]"})
NONE = Got()


def test_an_item_of_the_plain_client_alone_is_found() -> None:
    assert judge.lacking("at first", RIGHT, NONE)
    assert judge.lacking("at first", RIGHT, Got({**RIGHT.items, NAME: b"other"}))
    assert not judge.lacking("at first", RIGHT, RIGHT)


def test_a_list_that_the_plain_client_had_in_part_is_not_required() -> None:
    part = Got({f"tags {APP}": b"[1]"})
    assert not judge.required(Scene("lists"), (part, RIGHT, RIGHT), NONE).items
    assert judge.required(Scene("lists"), (RIGHT, RIGHT, RIGHT), NONE).items == RIGHT.items


def test_stored_content_is_required_except_for_a_deleted_tag() -> None:
    kept = Got({f"tag {APP} {TAG}": b"manifest", NAME: b"right"})
    gone = Deviation("tag", status=404)
    for deviation, wanted in ((Deviation("tag", status=403), 2), (gone, 1)):
        scene = Scene(deviations=(deviation,), warm=True)
        assert len(judge.required(scene, (NONE, kept, kept), NONE).items) == wanted


def test_wrong_bytes_part_of_a_list_and_a_false_head_are_found() -> None:
    tagged = Got({f"tag {APP} {TAG}": b"manifest"})
    head = f"head {APP} {TAG}"
    assert judge.lies(Got({NAME: b"other"}), RIGHT)
    assert judge.lies(Got({f"tags {APP}": b"[1]"}), RIGHT)
    assert judge.lies(Got(wrong=[NAME]), RIGHT)
    assert judge.lies(Got({head: b"sha256:0"}), tagged)
    assert not judge.lies(Got({head: digest_of(b"manifest").encode()}), tagged)


def test_pulls_bytes_and_questions_beyond_their_bounds_are_found() -> None:
    digest = content("image", "plain").top.digest
    pull = Seen("tag", "GET", APP, TAG, digest, status=200)
    had = Got({f"manifest {APP} {digest}": b""})

    def wrong(pulls: int, *, kept: Got = had, ttl: int = 60) -> list[str]:
        scene = Scene(tag_ttl=ttl)
        return judge.cost(scene, [pull] * 1, [pull] * pulls, kept, visits=2)

    assert not wrong(2)
    assert wrong(3)
    assert not wrong(3, ttl=0)
    assert not wrong(6, kept=NONE)
    assert wrong(7, kept=NONE)
    layer = content("image", "plain").order[-1]
    sent = [Seen("content", "GET", APP, layer, layer, status=200, sent=300_000)]
    assert not judge.cost(Scene(), sent, sent, Got({f"blob {APP} {layer}": b""}), visits=2)
    assert judge.cost(Scene(), sent, sent * 4, Got({f"blob {APP} {layer}": b""}), visits=2)


def test_a_counterexample_is_made_small() -> None:
    drops, odd = Deviation("blob", act="drop"), Deviation("tag", headers=(("ETag", None),))
    scene = Scene("head", (odd, drops), image="index", limits="hub")

    def play(scene: Scene) -> list[str]:
        return ["no blob"] if any(each.act == "drop" for each in scene.deviations) else []

    found = Found(scene, ("no blob",))
    assert shrunk(found, play).scene == Scene(deviations=(drops,))


def test_a_scene_is_read_as_it_is_printed() -> None:
    deviation = Deviation("tag", "HEAD", 2, status=429, headers=(("Retry-After", None),))
    for scene in (Scene(), Scene("head", (deviation, Deviation(act="drop")), warm=True)):
        assert read(repr(scene)) == scene
