"""Orders and records as lines of JSON, between a command and the running mirror."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from mirror.admin.messages import Order, OrderError, Piece, Record

_PIECE = 32 * 1024  # characters of a line that are written at once

_orders: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
_records: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def order_line(order: Order) -> bytes:
    """Write an order as JSON."""
    return _orders.dump_json(order)


def read_order(line: bytes) -> Order:
    """Read an order; raises OrderError."""
    try:
        return _orders.validate_json(line)
    except ValidationError:
        raise OrderError("the running mirror does not know this order") from None


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
        return _records.validate_json(line)
    except ValidationError:
        raise OrderError(
            "this command does not know the running mirror's answer: is that of another "
            "version? Restart it"
        ) from None


def _json(value: object) -> Iterator[str]:
    """Write a record, or a part of one: a tuple row by row, all else at once."""
    if isinstance(value, tuple):
        yield "["
        for number, row in enumerate(value):
            yield "," * bool(number)
            yield from _json(row)
        yield "]"
    elif is_dataclass(value):
        yield from _object({field.name: getattr(value, field.name) for field in fields(value)})
    else:
        yield json.dumps(value)


def _object(values: dict[str, object]) -> Iterator[str]:
    if not any(isinstance(value, tuple) for value in values.values()):
        yield json.dumps(values)
        return
    for number, (name, value) in enumerate(values.items()):
        yield f"{',' if number else '{'}{json.dumps(name)}:"
        yield from _json(value)
    yield "}"
