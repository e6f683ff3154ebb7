"""The progress of a long command: lines that are redrawn on a terminal, plain ones elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from mirror.admin.messages import Progress, WarmingImage, WarmProgress
from mirror.util.units import human

_BAR = 30  # characters
_SMALL_BAR = 16
_LEAST_BAR = 5
_AROUND_BAR = 10  # characters of its brackets and percentage
_BESIDE_NAME = 54  # characters of an image's line beside its name
_LONG_NAME = 60
_PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Lines:
    """Lines at the foot of a terminal, drawn over the previous ones; it has no colours."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self.possible = terminal.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = 0

    def show(self, lines: Sequence[str]) -> None:
        """Draw lines in the place of the previous ones, cut to the width."""
        if not self.possible:
            return
        columns = shutil.get_terminal_size().columns
        text = "\n".join(line[: columns - 1] for line in lines)
        self._terminal.write(f"{self._home}\x1b[J{text}")
        self._terminal.flush()
        self._shown = len(lines)

    def clear(self) -> None:
        """Clear the lines for other output."""
        if self._shown:
            self._terminal.write(f"{self._home}\x1b[J")
            self._terminal.flush()
            self._shown = 0

    @property
    def _home(self) -> str:
        return "\r" + (f"\x1b[{self._shown - 1}A" if self._shown > 1 else "")


class Bar:
    """A bar that is redrawn for each record of progress."""

    def __init__(self, terminal: TextIO) -> None:
        self._lines = Lines(terminal)
        self._began = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Redraw the bar."""
        rate = progress.bytes / max(time.monotonic() - self._began, 0.001)
        of_all = f"{human(progress.bytes)} of {human(progress.all_bytes)}"
        drawn = _bar(progress.bytes, progress.all_bytes, _BAR)
        self._lines.show([f"{drawn}  {of_all}, {human(rate)}/s"])

    def clear(self) -> None:
        """Clear the line for other output."""
        self._lines.clear()


class WarmBars:
    """A bar for all images, and one for each that is under way; else a line every 10 seconds."""

    def __init__(self, terminal: TextIO, timer: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._lines = Lines(terminal)
        self._timer = timer
        self._began = self._told = timer()

    def show(self, progress: WarmProgress) -> None:
        """Redraw the bars, or write a line if it is time for one."""
        now = self._timer()
        rate = progress.bytes / max(now - self._began, 0.001)
        done = f"{progress.images} of {progress.all_images} images"
        failed = f", {progress.failed} failed" if progress.failed else ""
        of_all = f"{human(progress.bytes)} of {human(progress.all_bytes)}"
        text = f"{done}{failed}, {of_all}, {progress.pulls} pulls, {human(rate)}/s"
        if self._lines.possible:
            columns = shutil.get_terminal_size().columns
            begun = sum(each.bytes / each.all_bytes for each in progress.running if each.all_bytes)
            width = max(0, min(_BAR, columns - len(text) - _AROUND_BAR))
            drawn = _bar(progress.images + begun, progress.all_images, width)
            name = max(20, min(_LONG_NAME, columns - _BESIDE_NAME))
            images = [_image(each, name) for each in progress.running]
            self._lines.show([f"{drawn}  {text}", *images])
        elif now >= self._told + _PLAIN_EVERY:
            self._told = now
            print(text, file=self._terminal, flush=True)

    def clear(self) -> None:
        """Clear the bars for other output."""
        self._lines.clear()


def _image(image: WarmingImage, width: int) -> str:
    name = image.image if len(image.image) <= width else f"…{image.image[1 - width :]}"
    if not image.all_bytes:
        return f"  {name:<{width}}  asking upstream"
    of_all = f"{human(image.bytes)} of {human(image.all_bytes)}"
    return f"  {name:<{width}}  {_bar(image.bytes, image.all_bytes, _SMALL_BAR)}  {of_all}"


def _bar(done: float, of_all: float, width: int) -> str:
    share = done / of_all if of_all else 1.0
    if width < _LEAST_BAR:
        return f"{share:4.0%}"
    full = round(share * width)
    return f"[{'#' * full}{'.' * (width - full)}] {share:4.0%}"
