"""`mirror doctor`: all that may be wrong with a mirror, a line a check, and what to do about it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from mirror.admin.messages import Finding
from mirror.app.doctor.examination import examine
from mirror.cli.orders import add_place
from mirror.settings import load_all
from mirror.util import logs

FAILED = 1  # exit code: something is wrong
_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_place(command, "Changes nothing. The exit code is 1 if a check fails.")
    command.add_argument("--json", action="store_true", help="print a list, an object a check")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if a check fails. Raises CommandError."""
    given = {} if options.data_dir is None else {"data_dir": options.data_dir}
    loaded = load_all(given, options.config)
    found: list[Finding] = []
    log_format = "text" if loaded.settings is None else loaded.settings.log_format
    with logs.standard_error(log_format) as log_writer:
        logs.set_up(log_format, "critical", log_writer)  # the findings say it all
        for finding in examine(loaded):
            found.append(finding)
            if not options.json:
                print(_line(finding), flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    return FAILED if any(finding.state == "fail" for finding in found) else 0


def _line(finding: Finding) -> str:
    """Write a finding; on a terminal its state has a colour, which says no more than the word."""
    state = f"{finding.state:<4}"
    if sys.stdout.isatty():
        state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
    words = "".join(letter if letter.isprintable() else "?" for letter in finding.words)
    end = "" if words.endswith(("?", ".")) else "."
    advice = f"{end} To do: {finding.advice}" if finding.advice else ""
    return f"{state}  {finding.check}: {words}{advice}"
