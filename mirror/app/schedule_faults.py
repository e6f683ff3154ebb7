"""Faults of schedules that show without their time: files that cannot be read, or name no image."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from os import environ
from pathlib import Path

from mirror.settings import Settings


def schedule_faults(settings: Settings) -> Iterator[str]:
    """Yield the faults of schedules' files; each line begins with its key. No start is refused."""
    for number, schedule in enumerate(settings.schedules):
        for file in schedule.files:
            if (fault := _fault(file, settings)) is not None:
                yield f"schedules.{number}.files has '{file}', which {fault}"


def _fault(file: Path, settings: Settings) -> str | None:
    try:
        found = import_module("mirror.image_lists.files").read_file(file, environ)
    except import_module("mirror.image_lists.found").UnreadableList as error:
        return str(error)
    if not found.images:
        return "names no image"
    for each in found:
        if each.name.repository.upstream not in settings.upstreams:
            known = ", ".join(sorted(settings.upstreams))
            return f"names '{each.name}' in line {each.line}, of no upstream: known are {known}"
    return None
