"""Messages: each order has its operation, and the documented fields and records."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from mirror.admin.messages import Record, Work
from mirror.admin.operations import OPERATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "development.md").read_text()
SECTION = PAGE.partition("\n## Orders\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|$", SECTION, re.MULTILINE)


def kind(message: type) -> str:
    """Return the kind of an order or a record."""
    [found] = [field.default for field in fields(message) if field.name == "kind"]
    return str(found)


def test_each_order_has_one_operation() -> None:
    assert set(OPERATIONS) == set(get_args(Work))


def test_each_order_is_documented_with_its_fields() -> None:
    documented = {order: set(re.findall(r"\w+", given)) for order, given, _ in ROWS}
    assert documented == {
        kind(order): {field.name for field in fields(order)} - {"kind"} for order in get_args(Work)
    }


def test_each_record_is_documented() -> None:
    documented = {name for _, _, records in ROWS for name in re.findall(r"`(\w+)`", records)}
    assert documented | {"refused"} == {kind(record) for record in get_args(Record)}
