"""A repository's standing: whether it is public, and when a denial is believed. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from mirror.upstream.publicity_check import ProbedContent

PUBLIC_FOR = 86_400.0  # seconds for which upstream's yes is valid without another question
ASK_EVERY = 60.0  # seconds between two questions about a repository that upstream denies
DENIALS = 3  # spaced denials, at the least, before a public repository is held back
DENIED_FOR = 600.0  # seconds from the first of them to the last, at the least
_DOUBT = 10.0  # seconds until the first denial of a never public repository is checked again
PAUSE = 5.0  # seconds until the next question if a client is refused for lack of an answer


class Check(Enum):
    """Whether a request waits for a question that is due."""

    NOT_DUE = "nothing is due"
    IN_BACKGROUND = "the question is asked in the background"
    BEFORE_ANSWER = "the request waits for the answer"


@dataclass(slots=True)
class Standing:
    """Upstream's answers about one repository. Times are seconds of a monotonic clock.

    A single denial of a public repository may be a mistake of upstream's. The repository is held
    back once `DENIALS` questions, each with a fresh token and `ASK_EVERY` apart, were denied over
    `DENIED_FOR`, each while upstream answered for other repositories. One yes ends all that.

    `decided` is the time of upstream's last yes or believed no; None if there was neither.
    `denied_at` is the last denial since the last yes; `since`, `counted_at` and `denials` are
    the first, the last and the number of the denials that count.
    `refused` is the content that was denied last. `lists` tells that the list of tags is public
    too, and `list_again` when to ask that again. `noted` tells that the index has the standing.
    """

    public: bool = False
    decided: float | None = None
    ask_again: float = -math.inf
    lists: bool = False
    list_again: float = -math.inf
    denied_at: float | None = None
    since: float | None = field(default=None, repr=False)
    counted_at: float = field(default=-math.inf, repr=False)
    denials: int = 0
    refused: ProbedContent | None = field(default=None, repr=False)
    noted: bool = field(default=False, repr=False)

    @property
    def unknown(self) -> bool:
        """Whether upstream has never been asked."""
        return self.decided is None and self.ask_again == -math.inf

    def wait(self, now: float) -> Check:
        """Return whether a question is due, and whether a request waits for its answer."""
        if now < self.ask_again:
            return Check.NOT_DUE
        return (
            Check.IN_BACKGROUND
            if self.public and self.denied_at is not None
            else Check.BEFORE_ANSWER
        )

    def suspect(self, now: float) -> None:
        """Record that upstream denied a client's pull: a question is due.

        That denial is not counted: the token may have been old, and a hundred clients may meet
        the same mistake within a second.
        """
        if self.public and self.denied_at is None:
            self.denied_at, self.ask_again = now, now

    def given(self, now: float, *, lists: bool) -> None:
        """Record that upstream serves the repository to the public."""
        self.public, self.decided, self.ask_again = True, now, now + PUBLIC_FOR
        self.lists = lists
        self.denied_at = self.since = self.refused = None
        self.counted_at, self.denials = -math.inf, 0

    def denied(self, now: float, wanted: ProbedContent | None, *, others: bool) -> None:
        """Record a denied question; `others` tells that upstream answered for other repositories.

        A repository that was never public is private at once. The question is repeated soon: the
        first denial may have been a mistake.
        """
        first = not self.public and self.denied_at is None and self.decided is None
        self.ask_again = now + (_DOUBT if first else ASK_EVERY)
        self.denied_at, self.refused = now, wanted
        if self.public:
            self._count(now, others=others)
        if not self.public:
            self.decided = now

    def undecided(self, now: float) -> None:
        """Record that no answer came, or an answer that does not tell whether it is public."""
        doubted = self.public and self.denied_at is not None
        self.ask_again = max(self.ask_again, now + (ASK_EVERY if doubted else PAUSE))

    def _count(self, now: float, *, others: bool) -> None:
        if not others or now < self.counted_at + ASK_EVERY:
            return
        if self.since is None:
            self.since = now
        self.counted_at = now
        self.denials += 1
        self.public = self.denials < DENIALS or now < self.since + DENIED_FOR
