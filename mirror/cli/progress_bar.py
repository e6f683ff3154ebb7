"""The progress bar of a long command, on a terminal only."""

from __future__ import annotations

import time
from typing import TextIO

from mirror.admin.messages import Progress
from mirror.util.units import human

_BAR = 30  # characters


class Bar:
    """A bar that is redrawn for each record of progress."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._wanted = terminal.isatty()
        self._shown = False
        self._began = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Redraw the bar."""
        if not self._wanted:
            return
        share = progress.bytes / progress.all_bytes if progress.all_bytes else 1.0
        full = round(share * _BAR)
        rate = progress.bytes / max(time.monotonic() - self._began, 0.001)
        self._terminal.write(
            f"\r\x1b[K[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}  {human(progress.bytes)} of "
            f"{human(progress.all_bytes)}, {human(rate)}/s"
        )
        self._terminal.flush()
        self._shown = True

    def clear(self) -> None:
        """Clear the line for other output."""
        if self._shown:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()
            self._shown = False
