"""The examination: all checks of the doctor, one after the other."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mirror.admin.messages import Finding, OrderError, Status
from mirror.app import preflight
from mirror.app.doctor import machine, network, running
from mirror.app.doctor.finding import fail, ok, warn
from mirror.app.trial import Trial
from mirror.settings import ConfigurationError, Loaded, Settings


def examine(
    loaded: Loaded,
    status_of: Callable[[Path], Status | OrderError | None] = running.status_of,
    tried: Callable[[Settings], list[Trial]] = network.tried,
) -> Iterator[Finding]:
    """Yield all findings. With faults that leave no settings, there is no more to check.

    `status_of` returns the status of the mirror that runs on a data folder, `tried` the outcome of
    a trial of all upstreams.
    """
    settings = loaded.settings
    yield from _configuration(loaded)
    if settings is None:
        return
    status = status_of(settings.data_dir.absolute())
    used = status.disk.used if isinstance(status, Status) else None
    try:
        yield from machine.findings(settings, used)
    except (OSError, ConfigurationError) as error:
        yield fail("data folder", str(error), "make it readable for this user")
    yield from running.findings(settings, status)
    yield from network.findings(settings, tried)


def _configuration(loaded: Loaded) -> Iterator[Finding]:
    found = [*loaded.faults]
    settings = loaded.settings
    if settings is not None:
        found += [
            loaded.sources.placed(line)
            for line in preflight.faults(settings)
            if not loaded.follows(line) and not _is_of_listener(line)
        ]
    for line in found:
        yield fail("configuration", line, "correct this key; `mirror config` prints all values")
    warnings = [] if settings is None else [*preflight.warnings(settings)]
    for line in warnings:
        yield warn("configuration", loaded.sources.placed(line), "correct this key")
    if not found and not warnings:
        yield ok("configuration", "nothing is wrong")


def _is_of_listener(line: str) -> bool:
    """Whether a fault is that an address is taken: `running` reports it, with the program."""
    return line.partition(" ")[0] in running.ADDRESSES and os.strerror(errno.EADDRINUSE) in line
