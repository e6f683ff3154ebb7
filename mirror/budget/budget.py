"""The pull budget: each pull is granted or refused here, before upstream is asked."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping

from mirror.budget.account import Account, BudgetPolicy
from mirror.budget.ledger import Ledger
from mirror.budget.permit import Permit
from mirror.budget.protocol import Outlook
from mirror.budget.pull_request import PullRequest
from mirror.identity.client import MIRROR_ITSELF
from mirror.oci.digest import Digest
from mirror.oci.names import HUB, HUB_WINDOW
from mirror.storage.metadata.rows import AccountKey
from mirror.upstream.telemetry import UpstreamResponse
from mirror.util.notifier import Notifier
from mirror.util.units import duration

_log = logging.getLogger(__name__)

_NO_POLICY = BudgetPolicy()
CHECKED = {HUB: "ratelimitpreview/test"}  # where a HEAD tells the limit (Docker's docs)


class Budget:
    """The windows of all accounts. `policies` are by upstream; `timer` is a monotonic clock."""

    def __init__(
        self,
        ledger: Ledger,
        policies: Mapping[str, BudgetPolicy],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        ledger.when_lost(self._rewrite_ledger)
        self.now = timer
        self._policies = policies
        self._accounts: dict[AccountKey, Account] = {}
        self._present = _present(policies)
        self._changes: defaultdict[AccountKey, Notifier] = defaultdict(Notifier)
        self._shut: set[AccountKey] = set()
        self.shut_times: defaultdict[AccountKey, int] = defaultdict(int)
        self.counted: defaultdict[str, int] = defaultdict(int)  # pulls since the start
        for key in self._present.values():
            self._account(key)

    def __repr__(self) -> str:
        return f"<Budget: {len(self._accounts)} accounts, {len(self._shut)} gates shut>"

    def upstreams(self) -> Collection[str]:
        """Return the names of the configured upstreams."""
        return self._present.keys()

    async def load(self) -> None:
        """Restore the accounts from the ledger."""
        now = self.now()
        for key, past in (await self.ledger.load(self.longest, now)).items():
            self._account(key).restore(past, now)
        await self.prune()

    def change(self, policies: Mapping[str, BudgetPolicy]) -> None:
        """Replace the policies, perhaps of other upstreams; recorded pulls and limits stay."""
        self._policies = policies
        self._present = _present(policies)
        for key in self._present.values():
            self._account(key)
        for key, account in self._accounts.items():
            account.change(policies.get(key.upstream, _NO_POLICY))
            self._changes[key].notify()

    @property
    def longest(self) -> float:
        """The length of the longest window, in seconds."""
        return max([HUB_WINDOW, *(account.window.length for account in self._accounts.values())])

    def accounts(self) -> Iterator[tuple[AccountKey, Account]]:
        """Return all accounts; a former one is included while its window matters."""
        now = self.now()
        for key, account in [*self._accounts.items()]:
            if self.is_present(key) or not account.window.idle(now):
                yield key, account

    def is_present(self, key: AccountKey) -> bool:
        """Whether an account is the present one of its upstream."""
        return self._present.get(key.upstream) == key

    def present(self, upstream: str) -> Account:
        """Return the account that an upstream is asked as; of a removed one the anonymous one."""
        return self._account(self._present_key(upstream))

    def _present_key(self, upstream: str) -> AccountKey:
        return self._present.get(upstream) or AccountKey(upstream, "")

    def counts(self, upstream: str) -> bool:
        """See `PullBudget.counts`."""
        return upstream in CHECKED or self.present(upstream).window.limit is not None

    def _account(self, key: AccountKey) -> Account:
        if key not in self._accounts:
            self._accounts[key] = Account(
                key.upstream, self._policies.get(key.upstream, _NO_POLICY)
            )
        return self._accounts[key]

    # Before upstream is asked

    def outlook(self, request: PullRequest) -> Outlook:
        """See `PullBudget.outlook`."""
        return self.present(request.repository.upstream).outlook(request, self.now())

    def admit(self, request: PullRequest) -> Permit:
        """See `PullBudget.admit`."""
        key = self._present_key(request.repository.upstream)
        account = self._account(key)
        verdict = account.verdict(request, self.now())
        return Permit(account, request, verdict, self._changes[key], self.now)

    def hint(self, request: PullRequest, platforms: Collection[Digest] | None = None) -> None:
        """See `PullBudget.hint`."""
        self.present(request.repository.upstream).hint(request, platforms, self.now())

    # After upstream has answered

    def observe(self, response: UpstreamResponse, request: PullRequest | None = None) -> None:
        """See `PullBudget.observe`."""
        if response.kind != "manifest" or response.status is None:
            return
        key = AccountKey(response.upstream, response.account)
        account = self._account(key)
        self._check_clock()
        refused = account.refused_for(self.now())
        if response.status == 200:
            self._check_limit(key, account, response)
        self._count(key, account, response, request)
        if response.spent:
            account.exempt(response.repository, exempt=False)
            account.shut(response.retry_after, self.now())
        if response.spent or (refused and not account.refused_for(self.now())):
            self._put_gate(key, account)
        self.tick()
        self._changes[key].notify()

    def _count(
        self,
        key: AccountKey,
        account: Account,
        response: UpstreamResponse,
        request: PullRequest | None,
    ) -> None:
        """Count the pull if upstream did, and note the limit that its answer names."""
        now, limit = self.now(), response.limit
        sent = now - response.seconds
        if response.counted and not account.exempts(response.repository):
            client = request.client if request else MIRROR_ITSELF
            account.count(now, client, sent, reported=limit is not None)
            self.counted[response.upstream] += 1
            self.ledger.add_pull(key, response, request)
        if limit is not None:
            account.observe_limit(limit, sent, now)
            if response.method == "HEAD" and not account.exempts(response.repository):
                account.head_cost.answered(limit.remaining)
            self._put_limit(key, account)

    def _check_limit(self, key: AccountKey, account: Account, response: UpstreamResponse) -> None:
        """Note whether a limit still holds, and for which repositories.

        An answer that names no limit means that there is none. But Docker Hub names none for exempt
        images, so only the repository made for checks decides there. An unreadable limit is one.
        """
        if response.garbled:
            return
        tells = CHECKED.get(response.upstream, response.repository) == response.repository
        if response.limit is None and account.window.reported is not None and tells:
            account.drop_limit()
            self.ledger.drop_limit(key)
            _log.info("%s names no pull limit any more", _name(key))
        exempt = response.limit is None and account.window.reported is not None
        account.exempt(response.repository, exempt=exempt)

    def tick(self) -> None:
        """Log the gates that shut or opened since the last call."""
        now = self.now()
        self._check_clock()
        for key, account in self._accounts.items():
            wait = account.shut_for(now)
            if wait and key not in self._shut:
                self._shut.add(key)
                self.shut_times[key] += 1
                _log.warning("%s: no pulls left, not asked for %s", _name(key), duration(wait))
            elif not wait and key in self._shut:
                self._shut.discard(key)
                self._put_gate(key, account)
                _log.warning("%s: pulls are left again", _name(key))

    # The ledger

    def _rewrite_ledger(self) -> tuple[()]:
        """Enter all pulls and limits in the ledger at once: it was lost, and starts anew."""
        now = self.now()
        for key, account in self._accounts.items():
            pulls = account.window.pulls(now)
            before = max(0, len(pulls) - account.window.unreported)
            for at in pulls[:before]:
                self.ledger.tell_pull(key, now - at)
            self._put_limit(key, account)
            for at in pulls[before:]:
                self.ledger.tell_pull(key, now - at)
        self._put_gates()
        return ()

    def _check_clock(self) -> None:
        """Let the ledger check whether the wall clock was set."""
        if self.ledger.see_clock(self.now()):
            self._put_gates()

    def _put_gates(self) -> None:
        for key, account in self._accounts.items():
            if account.refused_for(self.now()):
                self._put_gate(key, account)

    def _put_limit(self, key: AccountKey, account: Account) -> None:
        if reported := account.window.reported:
            self.ledger.put_limit(key, reported, account.window.length, self.now() - reported.at)

    def _put_gate(self, key: AccountKey, account: Account) -> None:
        self.ledger.put_gate(key, account.refused_for(self.now()))

    async def prune(self) -> None:
        """Drop old entries from the ledger."""
        await self.ledger.prune(self.longest, [*self._accounts])


def _name(key: AccountKey) -> str:
    return f"{key.upstream} as {key.name}" if key.name else key.upstream


def _present(policies: Mapping[str, BudgetPolicy]) -> dict[str, AccountKey]:
    """Return the account that each upstream is asked as."""
    return {upstream: AccountKey(upstream, policy.user) for upstream, policy in policies.items()}
