"""Charts as SVG: lines, areas and bars over time, with a title and a description in words.

A page has the same figures in a table beside each chart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from markupsafe import Markup

from mirror.console.render.numbers import count, step_clock

# A viewBox of a phone's width: text in a wider one would shrink there to an unreadable size.
_WIDTH, _HEIGHT = 480, 170
_LEFT, _RIGHT, _TOP, _FLOOR = 68, 8, 12, _HEIGHT - 28
_VISIBLE = 0.05  # of a viewBox's units
_LABELS = 5  # along the axis of time

Value = float | None  # None is a gap


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis of time, in epoch seconds."""

    begin: float
    end: float

    def x(self, at: float) -> float:
        """Return the place of a time."""
        share = (at - self.begin) / max(1.0, self.end - self.begin)
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)


class Mark(Protocol):
    """Something drawn on a chart."""

    def svg(self, axis: Axis, most: float) -> str:
        """Return it for a chart of values from 0 to `most`."""


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A line: its style's class, and its values by time, in time's order."""

    style: str
    values: Sequence[tuple[float, Value]]
    area: bool = False

    def svg(self, axis: Axis, most: float) -> str:
        """Return a polyline for each run of values, with the area below it if there is one."""
        return "".join(self._run(run, axis, most) for run in _runs(self.values))

    def _run(self, run: list[tuple[float, float]], axis: Axis, most: float) -> str:
        spots = [f"{axis.x(at):.1f},{_y(value, most):.1f}" for at, value in run]
        left, right = axis.x(run[0][0]), axis.x(run[-1][0])
        if len(spots) == 1:  # a line of one point would be invisible
            spots.append(f"{right + 2:.1f},{_y(run[0][1], most):.1f}")
        line = f'<polyline class="{self.style}" points="{" ".join(spots)}"/>'
        if not self.area or len(run) == 1:
            return line
        ends = f"{right:.1f},{_FLOOR} {left:.1f},{_FLOOR}"
        return f'<polygon class="area" points="{" ".join(spots)} {ends}"/>{line}'


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of `step` seconds; each has its begin, and the values of its lower and upper part."""

    step: float
    stacks: Sequence[tuple[float, float, float]]

    @property
    def most(self) -> float:
        """The height of the highest bar."""
        return max((lower + upper for _, lower, upper in self.stacks), default=0)

    def svg(self, axis: Axis, most: float) -> str:
        """Return a rectangle for each part."""
        return "".join(self._stack(axis, most, *each) for each in self.stacks)

    def _stack(self, axis: Axis, most: float, at: float, lower: float, upper: float) -> str:
        left, right = axis.x(at), axis.x(at + self.step)
        width = max(0.8, (right - left) * 0.82)
        middle, top = _y(lower, most), _y(lower + upper, most)
        made = ""
        for style, high, low in (("bar-first", middle, _FLOOR), ("bar-second", top, middle)):
            if low - high > _VISIBLE:
                box = f'x="{left:.1f}" y="{high:.1f}" width="{width:.1f}" height="{low - high:.1f}"'
                made += f'<rect class="{style}" {box}/>'
        return made


def chart(
    name: str,
    title: str,
    description: str,
    *drawn: Mark,
    axis: Axis,
    most: float,
    label: Callable[[float], str] = count,
) -> Markup:
    """Return a chart of values from 0 to `most`; `name` is unique on its page."""
    rules = "".join(_rule(most * part, most, label) for part in (0, 0.5, 1))
    body = "".join(each.svg(axis, most) for each in drawn)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(
        *(_WIDTH, _HEIGHT, name, name, name, title, name, description),
        Markup(rules + body + "".join(_times(axis))),  # noqa: S704 - numbers only
    )


def ceiling(value: float) -> float:
    """Return the next round number for the top of an axis: 1, 2 or 5 with zeros, at least 1."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(power * each for each in (1, 2, 5, 10) if power * each >= max(value, 1))


def _y(value: float, most: float) -> float:
    return _FLOOR - min(value / most, 1.0) * (_FLOOR - _TOP)


def _runs(values: Iterable[tuple[float, Value]]) -> Iterator[list[tuple[float, float]]]:
    """Split values at their gaps."""
    run: list[tuple[float, float]] = []
    for at, value in values:
        if value is not None:
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _rule(value: float, most: float, label: Callable[[float], str]) -> str:
    y = _y(value, most)
    text = f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>'
    return f'<path class="rule" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>{text}'


def _times(axis: Axis) -> Iterator[str]:
    length = axis.end - axis.begin
    for number in range(_LABELS):
        at = axis.begin + length * number / (_LABELS - 1)
        anchor = "start" if not number else "end" if number == _LABELS - 1 else "middle"
        place = f'x="{axis.x(at):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}"'
        yield f"<text {place}>{step_clock(int(at), int(length))}</text>"
