"""The shapes: an upstream's documents and blobs, made from a `Body`. Pure."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from tests.fuzz.plays import Body
from tests.standin.blobs import digest_of, noise
from tests.standin.images import OCI

_WIDTH = 6  # indexes on each level of a lattice
_MOST = 4_190_000  # bytes of a document: just within the bound of clients
_EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


class Made(NamedTuple):
    """The result of a shape; `inner` are the documents that it names, if it has them."""

    data: bytes
    media_type: str
    inner: tuple[bytes, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the data."""
        return digest_of(self.data)


@lru_cache(maxsize=64)
def made(body: Body, salt: str = "") -> Made:
    """Make a body; another `salt` makes a different body of the same shape."""
    return _SHAPES[body.shape](body.count, salt)


def _noise(count: int, salt: str) -> Made:
    return Made(b"".join(noise(salt, count)), "application/octet-stream")


def _zeros(count: int, salt: str) -> Made:
    return Made(salt.encode() + bytes(count), "application/octet-stream")


def _image(count: int, salt: str) -> Made:
    layers = [_descriptor(salt, number, OCI.layer) for number in range(count)]
    config = {"mediaType": OCI.config, "digest": _EMPTY, "size": 2}
    return _document({"config": config, "layers": layers}, OCI.manifest)


def _index(count: int, salt: str) -> Made:
    # The shortest descriptors: as many of them as a document can hold.
    children = [{"digest": _digest(f"{salt}{number}")} for number in range(count)]
    while children and len(children) * 84 > _MOST:
        children = children[: _MOST // 84]
    return _document({"manifests": children, "annotations": {"salt": salt}}, OCI.index)


def _chain(count: int, salt: str) -> Made:
    made = [_image(1, salt).data]
    for _ in range(count):
        made.append(_level(made[-1:]))
    return Made(made[-1], OCI.index, tuple(made[:-1]))


def _lattice(count: int, salt: str) -> Made:
    below, inner = [_image(1, salt).data], [_image(1, salt).data]
    for _ in range(count):
        below = [_level(below, f"{number}") for number in range(_WIDTH)]
        inner += below
    return Made(_level(below), OCI.index, tuple(inner))


def _level(below: list[bytes], salt: str = "") -> bytes:
    named = [
        {"mediaType": OCI.index, "digest": digest_of(each), "size": len(each)} for each in below
    ]
    return _document({"manifests": named, "annotations": {"salt": salt}}, OCI.index).data


def _annotations(count: int, salt: str) -> Made:
    """Make an honest index of `count` bytes."""
    return _document({"manifests": [], "annotations": {"a": salt + "x" * count}}, OCI.index)


def _tags(count: int, salt: str) -> Made:
    names = [f"{number:08d}-{'t' * 50}" for number in range(count)]
    return Made(json.dumps({"name": salt, "tags": names}).encode(), "application/json")


def _referrers(count: int, salt: str) -> Made:
    entries = [
        _descriptor(salt, number, OCI.manifest) | {"artifactType": f"a/{number % 7}"}
        for number in range(count)
    ]
    return _document({"manifests": entries}, OCI.index)


def _brackets(count: int, _: str) -> Made:
    return Made(b'{"tags":' + b"[" * count, "application/json")


def _objects(count: int, salt: str) -> Made:
    deep = '{"a":' * count + "1" + "}" * count
    text = f'{{"schemaVersion":2,"manifests":[],"annotations":{{"{salt}":"1"}},"tags":{deep}}}'
    return Made(text.encode(), OCI.index)


def _digits(count: int, salt: str) -> Made:
    text = (
        f'{{"schemaVersion":2,"manifests":[{{"digest":"{_digest(salt)}","size":{"9" * count}}}]}}'
    )
    return Made(text.encode(), OCI.index)


def _endless(count: int, salt: str) -> Made:
    """Numbers that are not JSON's, and numbers too large for a float."""
    many = ",".join(["1e999", "-1e999", "NaN", "1e-999", "Infinity"] * count)
    text = f'{{"schemaVersion":2,"manifests":[{{"digest":"{_digest(salt)}","x":[{many}]}}]}}'
    return Made(text.encode(), OCI.index)


def _text(count: int, salt: str) -> Made:
    return Made(('"' + salt + "\\u0061" * count).encode(), "application/json")


def _page(count: int, salt: str) -> Made:
    return Made(f"<html>{salt}{'<p>' * count}</html>".encode(), "text/html")


def _packed(count: int, _: str) -> Made:
    return Made(gzip.compress(bytes(count)), "application/json")


def _nothing(_: int, __: str) -> Made:
    return Made(b"", "application/octet-stream")


def _document(rest: dict[str, Any], media_type: str) -> Made:
    document = {"schemaVersion": 2, "mediaType": media_type} | rest
    return Made(json.dumps(document, separators=(",", ":")).encode(), media_type)


def _descriptor(salt: str, number: int, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(f"{salt}{number}"), "size": 100}


def _digest(of: str) -> str:
    return digest_of(of.encode())


_SHAPES: dict[str, Callable[[int, str], Made]] = {
    "noise": _noise,
    "zeros": _zeros,
    "image": _image,
    "index": _index,
    "chain": _chain,
    "lattice": _lattice,
    "annotations": _annotations,
    "tags": _tags,
    "referrers": _referrers,
    "brackets": _brackets,
    "objects": _objects,
    "digits": _digits,
    "endless": _endless,
    "text": _text,
    "page": _page,
    "packed": _packed,
    "nothing": _nothing,
}
