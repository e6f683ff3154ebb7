"""Shrinking: the part of a round that still shows the fault. Candidates are made by halving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.fuzz.plays import Ask, Body, Lie, Part, Play, Talk

T = TypeVar("T")
Fails = Callable[[tuple[Play, ...]], Awaitable[bool]]


async def shrunk(
    plays: tuple[Play, ...], fails: Fails, go_on: Callable[[], bool]
) -> tuple[Play, ...]:
    """Return the smallest plays that still fail: one play, if one fails alone, made as small."""
    for each in plays if len(plays) > 1 else ():
        if go_on() and await fails((each,)):
            return await shrunk((each,), fails, go_on)
    for fewer in _halves(plays) if len(plays) > 1 else _each(plays):
        if not go_on():
            break
        if await fails(fewer):
            return await shrunk(fewer, fails, go_on)
    return plays


def _each(plays: tuple[Play, ...]) -> Iterator[tuple[Play, ...]]:
    for play in plays:
        yield from ((smaller,) for smaller in candidates(play))


def candidates(play: Play) -> Iterator[Play]:
    """Yield plays that are a little smaller."""
    if isinstance(play, Talk):
        yield from (replace(play, parts=parts) for parts in _fewer(play.parts, _less_said))
        if play.crowd > 1:
            yield replace(play, crowd=play.crowd // 2)
        return
    yield from (replace(play, lies=lies) for lies in _fewer(play.lies, _less_untrue))
    yield from (replace(play, asks=asks) for asks in _fewer(play.asks, _less_asked))
    yield from (replace(play, document=each) for each in _less_of(play.document))
    yield from (replace(play, blob=each) for each in _less_of(play.blob))
    for plain in (replace(play, login=False), replace(play, away=False)):
        if plain != play:
            yield plain


def _fewer(things: tuple[T, ...], less: Callable[[T], Iterator[T]]) -> Iterator[tuple[T, ...]]:
    for at in range(len(things)):
        yield (*things[:at], *things[at + 1 :])
    for at, each in enumerate(things):
        yield from ((*things[:at], other, *things[at + 1 :]) for other in less(each))


def _less_said(part: Part) -> Iterator[Part]:
    if part.times > 1:
        yield replace(part, times=part.times // 2)


def _less_asked(ask: Ask) -> Iterator[Ask]:
    if ask.crowd > 1:
        yield replace(ask, crowd=ask.crowd // 2)


def _less_untrue(lie: Lie) -> Iterator[Lie]:
    for plainer in (
        "before",
        "without",
        "body",
        "claim",
        "pause",
        "stop",
        "then",
        "framing",
        "line",
    ):
        usual = getattr(Lie(lie.kind), plainer)
        if getattr(lie, plainer) != usual:
            yield replace(lie, **{plainer: usual})
    yield from (replace(lie, fields=fields) for fields in _fewer(lie.fields, _less_said))
    if lie.body is not None:
        yield from (replace(lie, body=body) for body in _less_of(lie.body))


def _less_of(body: Body) -> Iterator[Body]:
    if body.count > 1000:
        yield replace(body, count=body.count // 2)


def _halves(plays: Sequence[Play]) -> Iterator[tuple[Play, ...]]:
    middle = len(plays) // 2
    yield tuple(plays[:middle])
    yield tuple(plays[middle:])
