"""The pull limit: the number of manifests that a client may still GET."""

import hashlib

from .terms import Terms

ADDRESS = "127.0.0.1"


class PullLimit:
    """Counts pulls per account, or per address for anonymous clients, over a fixed window."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._spent: dict[str, int] = {}
        self._opened_at = terms.clock()

    def headers(self, user: str | None) -> dict[str, str]:
        """Return the headers that tell a client its remaining pulls; none without a limit."""
        limit = self._limit(user)
        if limit is None:
            return {}
        window = f";w={self._terms.window}"
        return {
            "ratelimit-limit": f"{limit}{window}",
            "ratelimit-remaining": f"{self.remaining(user)}{window}",
            "docker-ratelimit-source": _source(user),
        }

    def remaining(self, user: str | None = None) -> int:
        """Return the number of remaining pulls; 0 without a limit."""
        self._turn_window()
        return max((self._limit(user) or 0) - self._spent.get(_source(user), 0), 0)

    def spent(self, user: str | None) -> bool:
        """Tell whether the next pull is refused."""
        return self._limit(user) is not None and self.remaining(user) == 0

    def count(self, user: str | None) -> None:
        """Count one pull."""
        self._turn_window()
        self._spent[_source(user)] = self._spent.get(_source(user), 0) + 1

    def renew(self) -> None:
        """Begin a new window."""
        self._spent.clear()
        self._opened_at = self._terms.clock()

    def _limit(self, user: str | None) -> int | None:
        return self._terms.limit if user is None else self._terms.account_limit

    def _turn_window(self) -> None:
        if self._terms.clock() >= self._opened_at + self._terms.window:
            self.renew()

    def __repr__(self) -> str:
        return f"<PullLimit: {self._spent or 'nothing spent'}>"


def _source(user: str | None) -> str:
    """Return the name of a client as Docker Hub has it: an address, or an account's id."""
    return ADDRESS if user is None else hashlib.sha256(user.encode()).hexdigest()[:32]
