"""The draw: the plays of a round, from the seed and its number alone. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.fuzz import talks, traps
from tests.fuzz.plays import Play

DECK: Sequence[Callable[[random.Random], Play]] = (*talks.TALKS, *traps.TRAPS)
DEALT = 2  # cards of the deck in each round: a dozen rounds deal all of it
_TALKS, _TRAPS = 4, 2  # mutated plays beside the deck's


def plays(seed: int, number: int) -> tuple[Play, ...]:
    """Draw a round: two cards of the deck, which is dealt to its end before the next shuffle."""
    chance = random.Random(f"{seed}/round/{number}")
    dealt = [card(seed, number * DEALT + each)(chance) for each in range(DEALT)]
    said = [talks.mutated(chance) for _ in range(_TALKS)]
    laid = [traps.mutated(chance) for _ in range(_TRAPS)]
    return (*dealt, *said, *laid)


def card(seed: int, number: int) -> Callable[[random.Random], Play]:
    """Return the n-th dealt recipe."""
    turn, place = divmod(number, len(DECK))
    deck = list(DECK)
    random.Random(f"{seed}/deck/{turn}").shuffle(deck)
    return deck[place]
