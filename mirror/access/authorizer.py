"""The authorizer: which repositories a client may read through the mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from cachetools import TLRUCache

from mirror.access import policy
from mirror.access.policy import AccessRules
from mirror.access.publicity import Publicity
from mirror.access.standing import (
    ASK_EVERY,
    PAUSE,
    Check,
    Standing,
)
from mirror.identity.client import ClientIdentity
from mirror.oci.errors import NotAllowed, UpstreamTimeout
from mirror.oci.names import Repository
from mirror.upstream.errors import deadline
from mirror.upstream.publicity_check import ProbedContent, PublicityAnswer
from mirror.util.singleflight import SingleFlight

_ASKED = 20_000  # remembered; a forgotten one is asked about again
# A repository and its wanted content; "" stands for whether it is public at all.
_Topic: TypeAlias = tuple[Repository, ProbedContent | Literal[""] | None]


class AnonymousUpstream(Protocol):
    """An upstream that is asked without an account; see `PublicityCheck`."""

    async def ask(self, repository: str, wanted: ProbedContent | None) -> PublicityAnswer:
        """Ask whether a repository is public, by a question about `wanted`."""

    async def hides(self, repository: str, wanted: ProbedContent) -> bool:
        """Whether content that the account is given is called missing without an account."""

    async def answers(self) -> bool:
        """Whether the upstream answers at all."""


class Authorizer:
    """Checks each request for a repository, before any content is served.

    `publicity_checks` asks each upstream without an account; `publicity` has the answers.
    `stale_after` is how long a client waits, in seconds, for an upstream with an older answer at
    hand. `other_stored` names other stored content of a repository, beside the wanted.
    """

    def __init__(
        self,
        rules: Mapping[str, AccessRules],
        publicity_checks: Mapping[str, AnonymousUpstream],
        publicity: Publicity,
        stale_after: float,
        other_stored: Callable[
            [Repository, ProbedContent | None], ProbedContent | None
        ] = lambda *_: None,
    ) -> None:
        self._rules = rules
        self._publicity_checks = publicity_checks
        self._publicity = publicity
        self._stale_after = stale_after
        self._other_stored = other_stored
        self._questions: SingleFlight[_Topic, None] = SingleFlight()
        # The content without a yes, and until when that answer counts.
        self._asked: TLRUCache[_Topic, float] = TLRUCache(
            _ASKED, ttu=lambda _, until, __: until, timer=publicity.now
        )

    def __repr__(self) -> str:
        return f"<Authorizer: {self._publicity!r}, {len(self._questions)} asked for>"

    async def close(self) -> None:
        """Stop the running questions."""
        await self._questions.close()

    async def admit(
        self,
        repository: Repository,
        identity: ClientIdentity,
        wanted: Callable[[], ProbedContent | None],
    ) -> None:
        """Let a client read a repository; raises NotAllowed.

        `wanted` returns the requested content, None for a list of tags. Upstream is asked at most
        where it is pulled from with an account, or denied the repository to the mirror, and only
        for clients that may read public repositories only. A known answer costs one look into a
        table.
        """
        if self.admits(repository, identity):
            return
        rules = self._rules[repository.upstream]
        if not rules.permits(repository.name):
            raise NotAllowed(policy.not_served(identity, repository, rules))
        if identity.allow is not None and not identity.allow.match(repository.name):
            raise NotAllowed(policy.not_for(identity, repository))
        if not await self._is_public(repository, wanted()):
            raise NotAllowed(policy.not_public(repository, rules))

    def admits(self, repository: Repository, identity: ClientIdentity) -> bool:
        """Whether a client is admitted without a look at its standing."""
        rules = self._permitting(repository, identity)
        return rules is not None and self._opens(rules, repository, identity)

    def _permitting(self, repository: Repository, identity: ClientIdentity) -> AccessRules | None:
        """Return the upstream's rules if this client may read the repository, were it public."""
        rules = self._rules.get(repository.upstream)
        if rules is None or not rules.permits(repository.name):
            return None
        if identity.allow is not None and not identity.allow.match(repository.name):
            return None
        return rules

    def _opens(self, rules: AccessRules, repository: Repository, identity: ClientIdentity) -> bool:
        return self._publicity.open_to_all(repository) or rules.trusts(identity)

    def reads(self, identity: ClientIdentity, repository: Repository) -> bool:
        """Whether a client would be admitted without a question to upstream; safe on a thread."""
        rules = self._permitting(repository, identity)
        if rules is None:
            return False
        if self._opens(rules, repository, identity):
            return True
        standing = self._publicity.peek(repository)
        if standing is None or not standing.public:
            return False
        return standing.wait(self._publicity.now()) is not Check.BEFORE_ANSWER

    async def _is_public(self, repository: Repository, wanted: ProbedContent | None) -> bool:
        standing = self._publicity.get(repository)
        wait = standing.wait(self._publicity.now())
        if wait is not Check.NOT_DUE:
            question = self._question(repository, standing, wanted)
            if wait is Check.BEFORE_ANSWER:
                await self._wait(standing, question)
        if not standing.public and (repository, wanted) not in self._asked:
            await self._wait(standing, self._question_apart(repository, standing, wanted))
        if wanted is None and standing.public and self._publicity.has_account(repository):
            return await self._lists(repository, standing)
        return standing.public

    async def _lists(self, repository: Repository, standing: Standing) -> bool:
        """Whether the list of tags is public.

        Registries may list a repository for accounts only although all clients may pull from it.
        """
        now = self._publicity.now()
        if not standing.lists and now >= standing.list_again:
            await self._wait(standing, self._question(repository, standing, None))
            standing.list_again = now + ASK_EVERY
        return standing.lists

    def _question(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> asyncio.Task[None]:
        """Return the running question, a new one if there is none."""
        topic: _Topic = (repository, "")
        return self._questions.task(topic, lambda: self._ask(repository, standing, wanted))

    def _question_apart(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> asyncio.Task[None]:
        """Return the question about this client's content, if another client's decided nothing.

        Otherwise a client that asks for unobtainable content would keep all others from public
        content.
        """
        topic = (repository, wanted)
        return self._questions.task(topic, lambda: self._ask_apart(repository, standing, wanted))

    async def _wait(self, standing: Standing, question: asyncio.Task[None]) -> None:
        """Wait for an answer; if an older one is known, for `stale_after` seconds at most."""
        try:
            async with deadline(None if standing.unknown else self._stale_after):
                await asyncio.shield(question)
        except UpstreamTimeout:
            standing.undecided(self._publicity.now())

    async def _ask(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> None:
        """Ask upstream, and update the standing with its answer."""
        answer, content = await self._ask_upstream(repository, standing, wanted)
        denied = answer is PublicityAnswer.DENIED or (
            answer is PublicityAnswer.MISSING and await self._hides(repository, standing, content)
        )
        others = denied and standing.public and await self._answers(repository, standing)
        now = self._publicity.now()
        if answer.yes:
            standing.given(now, lists=answer is PublicityAnswer.LISTED)
        elif denied:
            standing.denied(now, content, others=others)
        else:
            standing.undecided(now)
        if not answer.yes:
            self._asked[repository, wanted] = standing.ask_again
        if answer.yes or denied:
            self._publicity.note(repository, standing)

    async def _ask_apart(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> None:
        """Ask upstream about this content alone: only a yes counts for the whole repository."""
        answer = await self._publicity_checks[repository.upstream].ask(repository.name, wanted)
        now = self._publicity.now()
        if answer.yes:
            standing.given(now, lists=answer is PublicityAnswer.LISTED)
            self._publicity.note(repository, standing)
        else:
            pause = ASK_EVERY if answer is PublicityAnswer.DENIED else PAUSE
            self._asked[repository, wanted] = now + pause

    async def _ask_upstream(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> tuple[PublicityAnswer, ProbedContent | None]:
        """Ask about the wanted content and, unless the answer is yes, about stored content.

        The client chooses the wanted content. Repeated requests for missing content, or for the
        tags, would block the questions of all other clients, and keep a repository open that became
        private. One denied manifest would hide all others: registries deny a manifest that a
        scanner complains of.
        """
        publicity_check = self._publicity_checks[repository.upstream]
        answer = await publicity_check.ask(repository.name, wanted)
        other = self._other_stored(repository, wanted) or standing.refused
        if answer.yes or other in (None, wanted):
            return answer, wanted
        of_other = await publicity_check.ask(repository.name, other)
        if of_other.yes or (
            answer is not PublicityAnswer.DENIED and of_other is not PublicityAnswer.UNDECIDED
        ):
            return of_other, other
        return answer, wanted

    async def _hides(
        self, repository: Repository, standing: Standing, wanted: ProbedContent | None
    ) -> bool:
        """Whether a public repository is hidden now: without an account it is called missing."""
        if wanted is None or not standing.public:
            return False
        return await self._publicity_checks[repository.upstream].hides(repository.name, wanted)

    async def _answers(self, repository: Repository, standing: Standing) -> bool:
        """Whether upstream answers without an account: then a denial is about this repository."""
        upstream = repository.upstream
        if self._publicity.granted_since(upstream, standing.denied_at):
            return True
        return await self._publicity_checks[upstream].answers()
