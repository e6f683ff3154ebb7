"""Orders from the terminal, carried out with or without a running mirror."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from mirror.admin import client
from mirror.admin.messages import UNFINISHED, OrderError, Progress, Record, Verified, Work
from mirror.admin.transfer import Supply
from mirror.cli.progress_bar import Bar
from mirror.settings import Settings, load
from mirror.util import logs

DAMAGED = 1  # exit code: something was damaged, and was discarded
Words: TypeAlias = Callable[[Record], Iterable[str]]  # a record as lines for the terminal


BESIDE = "Works beside a running mirror and without one."


def add_place(command: argparse.ArgumentParser, more: str = BESIDE) -> None:
    """Add the flags that lead to a mirror's data, as for `serve`; `more` goes into the help."""
    command.epilog = more
    command.add_argument("--config", type=Path, metavar="FILE", help="the mirror's configuration")
    command.add_argument(
        "--data-dir", dest="data_dir", metavar="DIR", help="the mirror's data folder"
    )


def add_dry_run(command: argparse.ArgumentParser) -> None:
    """Add the flag for a run that removes nothing."""
    command.add_argument(
        "--dry-run", action="store_true", help="print the removals and their size only"
    )


def carry_out(
    options: argparse.Namespace, order: Work, words: Words, supply: Supply | None = None
) -> int:
    """Have an order carried out and print its records; returns the exit code.

    `supply` has the content that the order asks for. Raises CommandError.
    """
    with prepared(options) as settings:
        return _run(settings, order, words, supply)


@contextmanager
def prepared(options: argparse.Namespace) -> Iterator[Settings]:
    """Load the settings, and print errors of the log while the context lasts.

    Raises CommandError.
    """
    given = {} if options.data_dir is None else {"data_dir": options.data_dir}
    settings = load(given, options.config)
    os.umask(0o077)
    with logs.standard_error(settings.log_format) as log_writer:
        logs.set_up(settings.log_format, "error", log_writer)  # warnings are printed already
        yield settings


def as_json(record: Record) -> Iterable[str]:
    """Write a record as a JSON object."""
    fields = asdict(record)
    del fields["kind"]
    yield json.dumps(fields, indent=2)


def _run(settings: Settings, order: Work, words: Words, supply: Supply | None) -> int:
    bar = Bar(sys.stderr)
    last: Record | None = None
    try:
        with closing(client.run(settings, order, supply)) as records:
            for record in records:
                last = record
                if isinstance(record, Progress):
                    bar.show(record)
                    continue
                bar.clear()
                for line in words(record):
                    print(line, flush=True)
    finally:
        bar.clear()
    if last is None or isinstance(last, UNFINISHED):
        raise OrderError(client.BROKE_OFF)
    return DAMAGED if isinstance(last, Verified) and last.wrong else 0
