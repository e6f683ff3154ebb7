"""Rows of the index as types."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullRow:
    """A counted request, numbered in the order of entry. `at` in seconds since the epoch."""

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
    """The limit as upstream last reported it: pulls per `window` seconds, as of `at`.

    `after` is the number of the last pull before that report.
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
    """The gate of an account: shut until `until`, in seconds since the epoch.

    `seconds` was the time left when the row was written.
    """

    upstream: str
    account: str
    until: int
    seconds: int


@dataclass(frozen=True, slots=True)
class SpenderRow:
    """The pulls spent by a client, or on a repository or tag."""

    name: str
    pulls: int
