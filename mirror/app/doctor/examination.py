"""The examination: all checks of the doctor, one after the other."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from mirror.admin.messages import Status
from mirror.app import preflight
from mirror.app.doctor import machine, network, running
from mirror.app.doctor.finding import Finding, fail, ok, warn
from mirror.settings import ConfigurationError, Loaded


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Yield all findings. With faults that leave no settings, there is no more to check."""
    settings = loaded.settings
    yield from _configuration(loaded)
    if settings is None:
        return
    status = running.status_of(settings.data_dir.absolute())
    used = status.disk.used if isinstance(status, Status) else None
    try:
        yield from machine.findings(settings, used)
    except (OSError, ConfigurationError) as error:
        yield fail("data folder", str(error), "make it readable for this user")
    yield from running.findings(settings, status)
    yield from network.findings(settings)


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
