"""Orders and records as lines of JSON, between a command and the running mirror."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from mirror.admin.messages import OrderError, Piece, Record, Work

_PIECE = 32 * 1024  # characters of a line that are written at once


@dataclass(frozen=True, slots=True)
class _Message:
    """The field that all messages have."""

    kind: str


def order_line(order: Work) -> bytes:
    """Write an order as JSON."""
    kind: type = type(order)
    return _adapter(kind).dump_json(order)


def read_order(line: bytes) -> Work:
    """Read an order; raises OrderError."""
    try:
        order: Work = _read(line, _by_kind(Work))
    except (ValidationError, KeyError):
        raise OrderError("the running mirror does not know this order") from None
    return order


def record_line(record: Record) -> Iterator[bytes]:
    """Write a record as a line of JSON, in pieces that each take little time.

    The bytes of a `Piece` follow its line.
    The usage of a cache with 100,000 tags is one record, and 0.4 s of work at once (measured).
    """
    if isinstance(record, Piece):
        yield json.dumps({"length": len(record.data), "kind": record.kind}).encode() + b"\n"
        yield record.data
        return
    gathered, size = list[str](), 0
    for text in _json(record):
        gathered.append(text)
        size += len(text)
        if size > _PIECE:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join([*gathered, "\n"]).encode()


def read_record(line: bytes) -> Record:
    """Read a record, a `Piece` still without its bytes; raises OrderError."""
    try:
        record: Record = _read(line, _by_kind(Record))
    except (ValidationError, KeyError):
        raise OrderError(
            "this command does not know the running mirror's answer: is that of another "
            "version? Restart it"
        ) from None
    return record


def _read(line: bytes, types: Mapping[str, type]) -> Any:  # noqa: ANN401 - one of the types
    """Read a message of one of the types; raises ValidationError, or KeyError for its kind."""
    kind: str = _adapter(_Message).validate_json(line).kind
    return _adapter(types[kind]).validate_json(line)


@cache
def _by_kind(union: UnionType) -> Mapping[str, type]:
    """Return the types of a union; each has its kind as a default."""
    return {
        str(field.default): each
        for each in get_args(union)
        for field in fields(each)
        if field.name == "kind"
    }


@cache
def _adapter(message: type) -> TypeAdapter[Any]:
    """Return the adapter of a type, made at its first message: those of all take 30 ms."""
    return TypeAdapter(message)


def _json(value: object) -> Iterator[str]:
    """Write a record, or a part of one: a tuple row by row, all else at once."""
    if isinstance(value, tuple):
        yield "["
        for number, row in enumerate(value):
            yield "," * bool(number)
            yield from _json(row)
        yield "]"
    elif is_dataclass(value):
        yield from _object({_member(it.name): getattr(value, it.name) for it in fields(value)})
    else:
        yield json.dumps(value)


def _member(name: str) -> str:
    """Return the member for a field: `from_` is `from`, which Python keeps for itself."""
    return name.removesuffix("_")


def _object(values: dict[str, object]) -> Iterator[str]:
    if not any(isinstance(value, tuple) for value in values.values()):
        yield json.dumps(values)
        return
    for number, (name, value) in enumerate(values.items()):
        yield f"{',' if number else '{'}{json.dumps(name)}:"
        yield from _json(value)
    yield "}"
