"""A text that is drawn again and again: in place on a terminal, one below the other elsewhere."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

_EVERY = 1.0  # seconds between two drawings on a terminal
_EVERY_ELSEWHERE = 5.0  # seconds

# Another screen, so that the lines above come back at the end; without a cursor.
_BEGIN = "\x1b[?1049h\x1b[?25l"
_END = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


Lines: TypeAlias = Callable[[int, int], list[str]]  # made for a width and a height
Drawing: TypeAlias = Generator[None, None, None]


def redraw(lines: Lines, output: TextIO = sys.stdout) -> None:
    """Draw `lines` until Ctrl-C or SIGTERM."""
    place = _on_terminal(lines, output) if output.isatty() else _below(lines, output)
    with _interruptible() as pause:
        every = _EVERY if output.isatty() else _EVERY_ELSEWHERE
        try:
            for _ in place:
                pause(every)
        except KeyboardInterrupt:
            return
        finally:
            place.close()


def _on_terminal(
    lines: Callable[[int, int], list[str]], output: TextIO
) -> Generator[None, None, None]:
    output.write(_BEGIN)
    try:
        while True:
            width, height = os.get_terminal_size(output.fileno())
            drawn = lines(width, height)[:height]
            # Nothing is cleared before it is overwritten: that would flicker.
            text = "\r\n".join(line + _REST_OF_LINE for line in drawn)
            output.write(_HOME + text + _REST)
            output.flush()
            yield
    finally:
        output.write(_END)
        output.flush()


def _below(lines: Lines, output: TextIO) -> Drawing:
    first = True
    while True:
        text = "\n".join(lines(80, 1000))
        output.write(text + "\n" if first else f"\n{text}\n")
        output.flush()
        first = False
        yield


@contextmanager
def _interruptible() -> Iterator[Callable[[float], None]]:
    """Have SIGTERM interrupt as Ctrl-C does; yields a pause that a resized terminal ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def pause(seconds: float) -> None:
        if select.select([reading], [], [], seconds)[0]:
            os.read(reading, 4096)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt),
        signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda *_: None),
    }
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield pause
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
