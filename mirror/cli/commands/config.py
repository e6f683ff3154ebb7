"""`mirror config`: the configuration in force, with the place of each value."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from yarl import URL

from mirror.app.upstream_plans import proxies
from mirror.settings import (
    ConfigurationError,
    Settings,
    display,
    load_all,
)


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
    rows = display.rows(loaded, loaded.settings, _proxies(loaded.settings))
    if options.json:
        objects = [{"key": row.key, "value": row.value, "from": row.place} for row in rows]
        print(json.dumps(objects, indent=2))
    else:
        for line in display.text(rows):
            print(line)
    return 0


def _proxies(settings: Settings) -> Mapping[str, str]:
    """Return the environment's proxies that upstreams are reached through, without their logins.

    Raises ConfigurationError.
    """
    found = {}
    for name, upstream in settings.upstreams.items():
        try:
            proxy = proxies(upstream).of(URL(upstream.url))
        except ConfigurationError as error:
            raise ConfigurationError(f"upstreams.{name}.{error}") from None
        if proxy is not None and upstream.proxy is None:
            found[name] = str(proxy.with_user(None)).rstrip("/")
    return found
