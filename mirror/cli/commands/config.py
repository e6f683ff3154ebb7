"""`mirror config`: the configuration in force, with the place of each value."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mirror.app.configuration import shown_rows
from mirror.settings import ConfigurationError, display, load_all


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    command.epilog = "Passwords and tokens are hidden."
    command.add_argument("--config", type=Path, metavar="FILE", help="the mirror's configuration")
    command.add_argument("--json", action="store_true", help="print a list, an object for each key")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code. Raises ConfigurationError."""
    loaded = load_all(file=options.config)
    if loaded.faults or loaded.settings is None:
        raise ConfigurationError(f"{loaded.faults[0]}; `mirror check` prints all faults")
    rows = shown_rows(display.Origins(loaded.sources), loaded.settings)
    if options.json:
        objects = [{"key": row.key, "value": row.value, "from": row.place} for row in rows]
        print(json.dumps(objects, indent=2))
    else:
        for line in display.text(rows):
            print(line)
    return 0
