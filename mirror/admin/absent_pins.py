"""Pinned tags that upstream does not have any more, each asked about less and less often."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass

from mirror.oci.image_name import ImageName

_FIRST = 60.0  # seconds until a tag is asked about again; each further 404 doubles them
_LONGEST = 1800.0  # seconds
_SURE = 2  # 404s in a row: one alone may be a mistake of upstream's


@dataclass(slots=True)
class _Absence:
    """The 404s in a row about a tag, and the time of the next question."""

    times: int = 0
    ask_at: float = -math.inf


class AbsentPins:
    """The pinned tags that upstream answered with a 404, or denied; `timer` is monotonic."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._absences: dict[ImageName, _Absence] = {}

    def __repr__(self) -> str:
        return f"<AbsentPins: {len(self._absences)} tags>"

    @property
    def names(self) -> tuple[str, ...]:
        """The tags that are absent for sure, in their order."""
        sure = (image for image, each in self._absences.items() if each.times >= _SURE)
        return tuple(sorted(map(str, sure)))

    def waits(self, image: ImageName) -> bool:
        """Whether upstream is not to be asked about a tag yet."""
        absence = self._absences.get(image)
        return absence is not None and self._timer() < absence.ask_at

    def note(self, image: ImageName) -> bool:
        """Note that upstream does not have a tag; returns whether that is sure since now."""
        absence = self._absences.setdefault(image, _Absence())
        pause = min(_FIRST * 2.0 ** min(absence.times, 16), _LONGEST)
        absence.times += 1
        absence.ask_at = self._timer() + pause
        return absence.times == _SURE

    def back(self, image: ImageName) -> bool:
        """Note that upstream has a tag; returns whether it was absent for sure."""
        absence = self._absences.pop(image, None)
        return absence is not None and absence.times >= _SURE

    def keep(self, images: Container[ImageName]) -> None:
        """Forget all other images: these are not pinned any more."""
        self._absences = {
            image: absence for image, absence in self._absences.items() if image in images
        }

    def forget(self, upstream: str) -> None:
        """Have an upstream asked again soon: it has changed."""
        self._absences = {
            image: absence
            for image, absence in self._absences.items()
            if image.repository.upstream != upstream
        }
