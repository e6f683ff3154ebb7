"""Rows of the index that other parts pass around."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullRow:
    """One counted request, numbered in the order of entry. `at` in seconds since the epoch."""

    number: int
    upstream: str
    account: str
    at: int
    repository: str
    reference: str
    digest: str
    client: str


@dataclass(frozen=True, slots=True)
class LimitRow:
    """What upstream said last of its limit: pulls per `window` seconds, and when it said so.

    `after` is the number of the last pull that it knew of.
    """

    upstream: str
    account: str
    allowed: int
    remaining: int
    window: int
    source: str
    at: int
    after: int


@dataclass(frozen=True, slots=True)
class GateRow:
    """Until when, in seconds since the epoch, an upstream that refused is not asked.

    That was `seconds` ahead when it was noted.
    """

    upstream: str
    account: str
    until: int
    seconds: int


@dataclass(frozen=True, slots=True)
class SpenderRow:
    """How many pulls somebody spent, or something cost."""

    name: str
    pulls: int
