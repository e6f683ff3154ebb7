"""`mirror budget`: the pulls left, their spenders, and the time that they last."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

from mirror.admin.messages import BudgetOrder, Record
from mirror.budget.summary import Budgets
from mirror.cli import budget_report
from mirror.cli.orders import add_place, as_json, carry_out


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command)
    command.add_argument("--json", action="store_true", help="print an object, times in seconds")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    return carry_out(options, BudgetOrder(), as_json if options.json else _words)


def _words(record: Record) -> Iterable[str]:
    return budget_report.lines(record, time.time()) if isinstance(record, Budgets) else ()
