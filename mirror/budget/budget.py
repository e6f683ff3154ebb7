"""The pull budget: each pull is granted or refused here, before upstream is asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from mirror.budget.account import Account, BudgetPolicy, Verdict
from mirror.budget.ledger import Key, Ledger
from mirror.budget.pull_request import PullRequest
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.digest import Digest
from mirror.oci.errors import PullLimitSpent, TooManyRequests
from mirror.oci.names import HUB, HUB_WINDOW
from mirror.upstream.telemetry import UpstreamResponse
from mirror.util.units import duration

_log = logging.getLogger(__name__)

_NO_TERMS = BudgetPolicy()
CHECKED = {HUB: "ratelimitpreview/test"}  # where a HEAD tells the limit (Docker's docs)


class Permit:
    """The right to one pull. Its cost is reserved until the permit is left."""

    def __init__(self, budget: Budget, account: Account, request: PullRequest, go: Verdict) -> None:
        self._budget = budget
        self._account = account
        self._request = request
        self._granted = go is Verdict.NOW
        if self._granted:
            account.take(request)

    async def __aenter__(self) -> None:
        """Wait while the verdict depends on running pulls; raises TooManyRequests."""
        while not self._granted:
            # Decided before each wait: the running pulls may have ended meanwhile.
            verdict = self._account.verdict(self._request, self._budget.now())
            if isinstance(verdict, TooManyRequests):
                raise verdict
            if verdict is Verdict.NOW:
                self._granted = True
                self._account.take(self._request)
            else:
                await self._budget.changed(self._account)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._granted:
            self._account.release(self._request)
            self._budget.wake(self._account)


class Budget:
    """The windows of all accounts. `terms` are by upstream; `timer` is a monotonic clock."""

    def __init__(
        self,
        ledger: Ledger,
        terms: Mapping[str, BudgetPolicy],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        ledger.when_lost(self._tell)
        self.now = timer
        self._terms = terms
        self._accounts: dict[Key, Account] = {}
        self._present = {upstream: (upstream, said.user) for upstream, said in terms.items()}
        self._waiting: defaultdict[int, list[asyncio.Future[None]]] = defaultdict(list)
        self._shut: set[Key] = set()
        self.shut_times: defaultdict[Key, int] = defaultdict(int)
        self.counted: defaultdict[str, int] = defaultdict(int)  # pulls since the start
        for key in self._present.values():
            self._account(key)

    def __repr__(self) -> str:
        return f"<Budget: {len(self._accounts)} accounts, {len(self._shut)} gates shut>"

    async def load(self) -> None:
        """Restore the accounts from the ledger."""
        now = self.now()
        for key, past in (await self.ledger.load(self.longest, now)).items():
            self._account(key).restore(past, now)
        await self.prune()

    def change(self, terms: Mapping[str, BudgetPolicy]) -> None:
        """Replace the terms, perhaps of other upstreams; recorded pulls and limits stay."""
        self._terms = terms
        self._present = {upstream: (upstream, said.user) for upstream, said in terms.items()}
        for key in self._present.values():
            self._account(key)
        for key, account in self._accounts.items():
            account.change(terms.get(key[0], _NO_TERMS))
            self.wake(account)

    @property
    def longest(self) -> float:
        """The length of the longest window, in seconds."""
        return max([HUB_WINDOW, *(account.window.length for account in self._accounts.values())])

    def accounts(self) -> Iterator[tuple[Key, Account]]:
        """Return all accounts; a former one is included while its window matters."""
        now = self.now()
        for key, account in [*self._accounts.items()]:
            if self.is_present(key) or not account.window.idle(now):
                yield key, account

    def is_present(self, key: Key) -> bool:
        """Whether an account is the present one of its upstream."""
        return self._present.get(key[0]) == key

    def present(self, upstream: str) -> Account:
        """Return the account that an upstream is asked as; of a removed one the anonymous one."""
        return self._account(self._present.get(upstream) or (upstream, ""))

    def counts(self, upstream: str) -> bool:
        """Whether an upstream may count a GET of a manifest, as far as that is known."""
        return upstream in CHECKED or self.present(upstream).window.limit is not None

    def _account(self, key: Key) -> Account:
        if key not in self._accounts:
            self._accounts[key] = Account(key[0], self._terms.get(key[0], _NO_TERMS))
        return self._accounts[key]

    # Before upstream is asked

    @contextmanager
    def asking(self, request: PullRequest) -> Iterator[None]:
        """Ask for a manifest or its descriptor, unless the gate is shut.

        Raises PullLimitSpent, also in the place of upstream's own 429: the mirror can say more.
        """
        account = self.present(request.repository.upstream)
        if closed := account.closed(request.repository.name, self.now()):
            raise closed
        try:
            yield
        except PullLimitSpent as error:
            raise account.closed(request.repository.name, self.now()) or error from error

    def admit(self, request: PullRequest) -> Permit:
        """Grant a pull, or let it wait for the running ones; raises TooManyRequests."""
        account = self.present(request.repository.upstream)
        verdict = account.verdict(request, self.now())
        if isinstance(verdict, TooManyRequests):
            raise verdict
        return Permit(self, account, request, verdict)

    def holds_back(self, request: PullRequest) -> bool:
        """Whether a tag that may have changed keeps its older digest for now, to save pulls."""
        return self.present(request.repository.upstream).holds_back(request, self.now())

    def refusal(self, request: PullRequest) -> TooManyRequests | None:
        """Return the refusal that a pull would get now, else None."""
        verdict = self.present(request.repository.upstream).verdict(request, self.now())
        return verdict if isinstance(verdict, TooManyRequests) else None

    def refuses_index(self, request: PullRequest) -> bool:
        """Whether a pull of a manifest of unknown kind goes now, but not if it is an index."""
        return not self.refusal(request) and bool(self.refusal(request.as_index()))

    def expect(self, request: PullRequest) -> None:
        """Reserve a pull for a client that is told of a manifest that is not stored."""
        self.present(request.repository.upstream).expect(request, self.now())

    async def changed(self, account: Account) -> None:
        """Wait until a pull has ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[id(account)].append(future)
        await future

    def wake(self, account: Account) -> None:
        """Let all waiting pulls be decided anew."""
        for future in self._waiting.pop(id(account), []):
            if not future.done():
                future.set_result(None)

    # After upstream has answered

    def promise(self, request: PullRequest, index: Digest, missing: Collection[Digest]) -> None:
        """Reserve a pull for one of the manifests of an index that are not stored."""
        account = self.present(request.repository.upstream)
        account.promise(index, missing, request.client, self.now())

    def observe(self, answer: UpstreamResponse, request: PullRequest | None = None) -> None:
        """Note a response: whether it was counted, and the limit that it names.

        `request` is the client's; None if the mirror asked for itself.
        """
        if answer.kind != "manifest" or answer.status is None:
            return
        key = (answer.upstream, answer.account)
        account = self._account(key)
        self._see_clock()
        refused = account.refused_for(self.now())
        if answer.status == 200:
            self._limited(key, account, answer)
        self._enter(key, account, answer, request)
        if answer.spent:
            account.exempt(answer.repository, exempt=False)
            account.refused(answer.retry_after, self.now())
        if answer.spent or (refused and not account.refused_for(self.now())):
            self._put_gate(key, account)
        self.tick()
        self.wake(account)

    def _enter(
        self, key: Key, account: Account, answer: UpstreamResponse, request: PullRequest | None
    ) -> None:
        """Count the pull if upstream did, and note the limit that its answer names."""
        now, limit = self.now(), answer.limit
        sent = now - answer.seconds
        if answer.counted and not account.exempts(answer.repository):
            client = request.client if request else MIRROR_ITSELF
            account.count(now, client, sent, said=limit is not None)
            self.counted[answer.upstream] += 1
            self.ledger.add_pull(key, answer, request)
        if limit is not None:
            account.hear(limit, sent, now)
            self._put_limit(key, account)

    def _limited(self, key: Key, account: Account, answer: UpstreamResponse) -> None:
        """Note whether a limit still holds, and for which repositories.

        An answer that names no limit means that there is none. But Docker Hub names none for exempt
        images, so only the repository made for checks decides there. An unreadable limit is one.
        """
        if answer.garbled:
            return
        tells = CHECKED.get(answer.upstream, answer.repository) == answer.repository
        if answer.limit is None and account.window.word is not None and tells:
            account.lift()
            self.ledger.drop_limit(key)
            _log.info("%s names no pull limit any more", _name(key))
        exempt = answer.limit is None and account.window.word is not None
        account.exempt(answer.repository, exempt=exempt)

    def tick(self) -> None:
        """Log the gates that shut or opened since the last call."""
        now = self.now()
        self._see_clock()
        for key, account in self._accounts.items():
            wait = account.shut_in(now)
            if wait and key not in self._shut:
                self._shut.add(key)
                self.shut_times[key] += 1
                _log.warning("%s: no pulls left, not asked for %s", _name(key), duration(wait))
            elif not wait and key in self._shut:
                self._shut.discard(key)
                self._put_gate(key, account)
                _log.warning("%s: pulls are left again", _name(key))

    # The ledger

    def _tell(self) -> tuple[()]:
        """Enter all pulls and limits in the ledger at once: it was lost, and starts anew."""
        now = self.now()
        for key, account in self._accounts.items():
            pulls = account.window.pulls(now)
            before = max(0, len(pulls) - account.window.unsaid)
            for at in pulls[:before]:
                self.ledger.tell_pull(key, now - at)
            self._put_limit(key, account)
            for at in pulls[before:]:
                self.ledger.tell_pull(key, now - at)
        self._put_gates()
        return ()

    def _see_clock(self) -> None:
        """Let the ledger check whether the wall clock was set."""
        if self.ledger.see_clock(self.now()):
            self._put_gates()

    def _put_gates(self) -> None:
        for key, account in self._accounts.items():
            if account.refused_for(self.now()):
                self._put_gate(key, account)

    def _put_limit(self, key: Key, account: Account) -> None:
        if word := account.window.word:
            self.ledger.put_limit(key, word, account.window.length, self.now() - word.at)

    def _put_gate(self, key: Key, account: Account) -> None:
        self.ledger.put_gate(key, account.refused_for(self.now()))

    async def prune(self) -> None:
        """Drop old entries from the ledger."""
        await self.ledger.prune(self.longest, [*self._accounts])


def _name(key: Key) -> str:
    return f"{key[0]} as {key[1]}" if key[1] else key[0]
