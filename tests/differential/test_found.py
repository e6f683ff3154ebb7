"""All counterexamples ever found, by the promises that they broke."""

from __future__ import annotations

import pytest

from tests.differential.play import played
from tests.differential.scene import Deviation, Scene

_STAR = (("Content-Range", "bytes {start}-{last}/*"),)

FOUND = {
    # Blobs, whole and in parts
    "a blob of no bytes is had": Scene(image="empty config"),
    "a location with a space in it is followed": Scene(blobs="space"),
    "a whole that is called a part is the whole": Scene(
        deviations=(Deviation(status=206, headers=(("Content-Range", "bytes 0-{last}/*"),)),)
    ),
    "a rest that is refused by 401 is had whole": Scene(
        "leaves", (Deviation(method="range", status=401),)
    ),
    "a rest that is refused by 406 is had whole": Scene(
        "leaves", (Deviation(method="range", status=406),)
    ),
    "a rest that fails is had whole": Scene("leaves", (Deviation(method="range", status=500),)),
    "a rest that is no service is had whole": Scene(
        "leaves", (Deviation(method="range", status=501),)
    ),
    "a rest elsewhere that is refused is had whole": Scene(
        "leaves", (Deviation(method="range", status=500, page="xml", away=True),)
    ),
    "a rest of an unknown whole is had": Scene(
        "leaves", (Deviation("content", "range", headers=_STAR),), blobs="hops"
    ),
    "a web page is no rest of a blob": Scene(
        "leaves", (Deviation("content", "range", 5, status=200, body="page"),), blobs="relative"
    ),
    "a layer that another repository has is had where HEAD hangs up": Scene(
        "shares", (Deviation("content", "HEAD", act="drop"),), blobs="relative"
    ),
    "a layer of another upstream is had where every part hangs up": Scene(
        "upstreams", (Deviation(method="range", act="drop"),)
    ),
    "a layer of another upstream is had where every part is a whole that is cut": Scene(
        "upstreams",
        (Deviation("content", "range", status=203, body="cut"),),
        image="typeless",
        blobs="hops",
    ),
    "a layer of another upstream is had where every part stalls": Scene(
        "upstreams", (Deviation(method="range", body="stalls"),)
    ),
    "a rest that stalls is had whole": Scene("leaves", (Deviation(method="range", body="stalls"),)),
    "bodies that are always cut cost no bytes twice": Scene(
        "upstreams", (Deviation("content", body="cut"),), blobs="relative"
    ),
    # Manifests
    "an empty manifest by digest costs one pull more, by its tag": Scene(
        "head", (Deviation("digest", body="empty"),)
    ),
    "a HEAD by tag that is refused lets GET decide": Scene(
        deviations=(Deviation("tag", "HEAD", status=403),)
    ),
    "a HEAD by tag that finds nothing lets GET decide": Scene(
        deviations=(Deviation("tag", "HEAD", status=404),)
    ),
    "a HEAD by tag that is not acceptable lets GET decide": Scene(
        deviations=(Deviation("tag", "HEAD", status=406),)
    ),
    **{
        f"a GET by digest that {how} lets GET by tag decide": Scene(deviations=(deviation,))
        for how, deviation in {
            "is unauthorized": Deviation("digest", status=401),
            "is denied": Deviation("digest", status=403),
            "is not acceptable": Deviation("digest", "whole", status=406),
            "is asked too often": Deviation("digest", "whole", status=429, page="plain"),
            "fails": Deviation("digest", "whole", status=503),
            "is not found elsewhere": Deviation("digest", status=404, away=True),
            "hangs up": Deviation("digest", "whole", act="drop"),
            "is silent": Deviation("digest", "whole", act="hang"),
            "has no bytes": Deviation("digest", "whole", body="empty"),
            "has wrong bytes": Deviation("digest", "whole", body="wrong"),
            "is cut": Deviation("digest", "whole", body="cut"),
            "has a web page": Deviation("digest", "whole", status=203, body="page"),
        }.items()
    },
    "a HEAD by digest that hangs up lets GET decide": Scene(
        "shares", (Deviation("digest", "HEAD", act="drop"),), image="index"
    ),
    "an odd type does not spoil what its digest proves": Scene(
        deviations=(Deviation("digest", "whole", headers=(("Content-Type", "a/b; c=d"),)),)
    ),
    "an artifact is had": Scene(image="artifact"),
    "an artifact of ORAS is had": Scene(image="oras"),
    "an image of schema 1 is had": Scene(image="schema1"),
    "a signed image of schema 1 is had": Scene(image="signed"),
    "requests of a minute are no pulls": Scene(upstream="registry.test", limits="gateway"),
    # Lists
    "a list of the known tags says that it is not whole": Scene(
        "lists", (Deviation("tags", status=502),)
    ),
    "a list goes on by whatever its link says": Scene("lists", listing="token"),
    "a link to another host leads on at the registry's own": Scene("lists", listing="other host"),
    "one odd tag does not spoil the others": Scene("lists", listing="odd entry"),
    "referrers that are no document have a tag": Scene(
        "lists", (Deviation("referrers", body="wrong"),), referrers="empty"
    ),
    "referrers that are a bad request have a tag": Scene("lists", referrers="bad"),
    "referrers that are not allowed have a tag": Scene("lists", referrers="not allowed"),
    "referrers that are a missing page have a tag": Scene("lists", referrers="page"),
    "referrers that are no list have a tag": Scene("lists", referrers="empty"),
    "referrers that are not found elsewhere have a tag": Scene(
        "lists", (Deviation("referrers", status=404, away=True),)
    ),
    "no index refers to itself": Scene("lists", image="index", referrers="itself"),
    "no index of indexes refers to itself": Scene("lists", image="nested", referrers="itself"),
}


@pytest.mark.parametrize("scene", FOUND.values(), ids=FOUND)
def test_it_is_had(scene: Scene) -> None:
    assert not played(scene)
