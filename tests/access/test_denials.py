"""Denials: a mistake of upstream's holds no content back, and a true denial does."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.access.authorizer import Authorizer
from mirror.access.policy import AccessRules
from mirror.access.publicity import Publicity
from mirror.access.standing import (
    ASK_EVERY,
    DENIALS,
    DENIED_FOR,
    PUBLIC_FOR,
    Standing,
)
from mirror.identity.client import ClientIdentity, Private
from mirror.oci.errors import NotAllowed
from mirror.oci.names import Repository, Tag
from mirror.oci.patterns import Patterns
from mirror.storage.metadata.protocol import MetadataStore
from mirror.storage.metadata.sqlite.store import open_sqlite
from mirror.upstream.publicity_check import ProbedContent, PublicityAnswer
from tests.support.clock import Clock

SECRET = "team/secret"
BELIEVED = DENIED_FOR + ASK_EVERY  # seconds; the first question is not asked at once
LATEST = ProbedContent("manifest", Tag("latest"))
STRANGER, FRIEND = ClientIdentity("10.0.0.1"), ClientIdentity("10.0.0.2", "friend")


class Word:
    """Upstream's answers about all repositories, to anonymous questions and to its account's."""

    def __init__(self) -> None:
        self.said = PublicityAnswer.LISTED
        self.missing: ProbedContent | None = None  # the content that MISSING is answered for
        self.up = True  # whether other questions are answered
        self.hidden = False  # whether the account gets the content that is missing for others
        self.asked: list[ProbedContent | None] = []

    async def ask(self, _repository: str, wanted: ProbedContent | None) -> PublicityAnswer:
        """Return the answer."""
        self.asked.append(wanted)
        await asyncio.sleep(0)
        return PublicityAnswer.MISSING if wanted and wanted == self.missing else self.said

    async def hides(self, _repository: str, _wanted: ProbedContent) -> bool:
        """Return whether the content is hidden."""
        return self.hidden

    async def answers(self) -> bool:
        """Return whether other questions are answered."""
        return self.up


class Door:
    """The access rules of an upstream that is pulled from with an account, or without."""

    def __init__(
        self,
        index: MetadataStore,
        private: Private = "authenticated",
        *,
        account: bool = True,
        holds: bool = True,
        before: Door | None = None,
    ) -> None:
        self.word: Word = before.word if before else Word()
        self.clock: Clock = before.clock if before else Clock()
        self.index = index
        accounts = ["docker.io"] if account else []
        self.publicity = Publicity(accounts, index, lambda _: holds, self.clock, self.clock)
        rules = {"docker.io": AccessRules(Patterns(["**"]), Patterns(()), private)}
        self.access = Authorizer(rules, {"docker.io": self.word}, self.publicity, 1)

    async def lets_in(
        self,
        identity: ClientIdentity = STRANGER,
        wanted: ProbedContent | None = LATEST,
        name: str = SECRET,
    ) -> bool:
        """Return whether a client is admitted; all questions are answered then."""
        try:
            await self.access.admit(Repository("docker.io", name), identity, lambda: wanted)
        except NotAllowed:
            return False
        finally:
            for _ in range(5):  # the questions in the background
                await asyncio.sleep(0)
        return True

    def told(self, granted: bool, name: str = SECRET) -> None:
        """Have the registry grant a request for a repository, or deny it."""
        self.publicity.observe(Repository("docker.io", name), granted)

    async def later(self, seconds: float, *, every: float = 20.0) -> bool:
        """Let strangers come while time passes; returns whether the last of them is admitted."""
        end, let_in = self.clock.now + seconds, True
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + every, end)
            let_in = await self.lets_in()
        return let_in

    async def rows(self) -> list[tuple[str, bool]]:
        """Return the rows of the index on whether repositories are public."""
        await self.index.flush()
        return [(row.repository.name, row.public) for row in await self.index.publicity()]


@pytest.mark.parametrize(
    ("private", "stranger", "friend"),
    [("nobody", False, False), ("authenticated", False, True), ("everyone", True, True)],
)
async def test_the_setting_decides_which_clients_read_a_private_repository(
    index: MetadataStore, private: Private, stranger: bool, friend: bool
) -> None:
    door = Door(index, private)
    door.word.said = PublicityAnswer.DENIED
    assert await door.lets_in() is stranger
    assert await door.lets_in(FRIEND) is friend
    assert len(door.word.asked) == (0 if private == "everyone" else 1)


async def test_a_client_may_read_no_more_than_its_own_list(index: MetadataStore) -> None:
    door = Door(index, "everyone")
    assert await door.lets_in(ClientIdentity("10.0.0.2", "friend", Patterns(["team/*"])))
    assert not await door.lets_in(ClientIdentity("10.0.0.2", "friend", Patterns(["org/*"])))
    assert not await door.lets_in(ClientIdentity("10.0.0.2", None, Patterns(())))


async def test_upstreams_yes_lasts_for_a_day(index: MetadataStore) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.word.said = PublicityAnswer.DENIED
    door.clock.now += PUBLIC_FOR - 1
    assert await door.lets_in()
    assert len(door.word.asked) == 1


async def test_a_private_repository_is_public_within_a_minute_of_upstreams_yes(
    index: MetadataStore,
) -> None:
    door = Door(index)
    door.word.said = PublicityAnswer.DENIED
    assert not await door.lets_in()
    door.clock.now += ASK_EVERY
    assert not await door.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    door.clock.now += ASK_EVERY - 1
    assert not await door.lets_in()
    assert len(door.word.asked) == 2
    door.clock.now += 1
    assert await door.lets_in()


async def test_the_first_denial_of_all_is_checked_seconds_later(index: MetadataStore) -> None:
    door = Door(index)
    door.word.said = PublicityAnswer.DENIED
    assert not await door.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    assert not await door.lets_in()
    door.clock.now += 10
    assert await door.lets_in()
    assert len(door.word.asked) == 2


@pytest.mark.parametrize("said", [PublicityAnswer.MISSING, PublicityAnswer.UNDECIDED])
async def test_what_cannot_be_told_is_closed_for_seconds(
    index: MetadataStore, said: PublicityAnswer
) -> None:
    door = Door(index)
    door.word.said = said
    assert not await door.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    assert not await door.lets_in()
    door.clock.now += 6
    assert await door.lets_in()
    assert await door.rows() == [(SECRET, True)]


# Denials


async def suspected(index: MetadataStore, *, account: bool) -> Door:
    """Return the door of a repository that upstream gave without an account, and denies now."""
    door = Door(index, account=account)
    assert await door.lets_in()
    door.told(granted=False)
    door.word.said = PublicityAnswer.DENIED
    return door


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_is_believed_after_three_questions_over_ten_minutes(
    index: MetadataStore, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert await door.lets_in()
    assert await door.later(DENIED_FOR - 20)
    assert await door.later(20)  # the request that causes the question does not wait for the answer
    assert not await door.lets_in()
    assert await door.lets_in(FRIEND)
    asked = len(door.word.asked) - account
    assert DENIALS <= asked <= DENIED_FOR / ASK_EVERY + 1


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_is_believed_after_three_questions_however_seldom(
    index: MetadataStore, account: bool
) -> None:
    door = await suspected(index, account=account)
    for _ in range(DENIALS):
        assert await door.lets_in()
        door.clock.now += 3600
    assert not await door.lets_in()


@pytest.mark.parametrize("account", [True, False])
async def test_one_yes_ends_a_denial(index: MetadataStore, account: bool) -> None:
    door = await suspected(index, account=account)
    assert await door.later(DENIED_FOR - 20)
    door.word.said = PublicityAnswer.PUBLIC
    assert await door.later(ASK_EVERY)
    door.word.said = PublicityAnswer.DENIED
    door.told(granted=False)
    assert await door.later(DENIED_FOR - 20)


async def test_a_granted_pull_ends_a_denial_of_an_upstream_without_account(
    index: MetadataStore,
) -> None:
    door = await suspected(index, account=False)
    assert not await door.later(BELIEVED)
    assert await door.rows() == [(SECRET, False)]
    door.told(granted=True)
    assert await door.lets_in()
    assert await door.rows() == []


async def test_a_pull_that_is_granted_while_the_question_is_asked_opens_at_once(
    index: MetadataStore,
) -> None:
    door = await suspected(index, account=False)
    assert not await door.later(BELIEVED)
    door.clock.now += ASK_EVERY
    waiting = asyncio.create_task(door.lets_in())
    await asyncio.sleep(0)
    door.told(granted=True)
    assert await waiting
    assert await door.rows() == []


async def test_what_the_account_is_given_is_no_yes_for_others(index: MetadataStore) -> None:
    door = await suspected(index, account=True)
    for _ in range(32):
        door.told(granted=True)
        await door.later(20)
    assert not await door.lets_in()


@pytest.mark.parametrize("account", [True, False])
async def test_what_is_held_back_is_open_within_a_minute_of_upstreams_yes(
    index: MetadataStore, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert not await door.later(BELIEVED)
    asked = len(door.word.asked)
    assert not await door.later(600)
    assert len(door.word.asked) - asked <= 600 / ASK_EVERY
    door.word.said = PublicityAnswer.PUBLIC
    assert await door.later(ASK_EVERY)
    assert await door.lets_in()
    assert await door.rows() == ([(SECRET, True)] if account else [])


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_of_everybody_is_never_believed(index: MetadataStore, account: bool) -> None:
    door = await suspected(index, account=account)
    door.word.up = False
    assert await door.later(10 * DENIED_FOR)
    door.word.up = True  # from now on the denial counts
    assert await door.later(DENIED_FOR)
    assert not await door.later(2 * ASK_EVERY)


async def test_another_granted_repository_shows_that_the_registry_answers(
    index: MetadataStore,
) -> None:
    door = Door(index, account=False)
    door.told(granted=True, name="team/other")
    door.told(granted=False)
    door.word.said, door.word.up = PublicityAnswer.DENIED, False
    assert await door.later(2 * DENIED_FOR)  # that answer was earlier
    for _ in range(33):
        door.told(granted=True, name="team/other")
        await door.later(20)
    assert not await door.lets_in()


@pytest.mark.parametrize("said", [PublicityAnswer.UNDECIDED, PublicityAnswer.MISSING])
async def test_what_says_nothing_holds_nothing_back(
    index: MetadataStore, said: PublicityAnswer
) -> None:
    door = await suspected(index, account=False)
    door.word.said = said
    assert await door.later(3 * DENIED_FOR)
    assert len(door.word.asked) <= 3 * DENIED_FOR / ASK_EVERY + 1


async def test_content_that_only_the_account_is_given_is_denied_to_others(
    index: MetadataStore,
) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.clock.now += PUBLIC_FOR
    door.word.said = PublicityAnswer.MISSING
    assert await door.later(2 * DENIED_FOR)  # the content is gone, for the account too
    door.word.hidden = True
    assert not await door.later(DENIED_FOR + 2 * ASK_EVERY)


async def test_mistakes_now_and_then_are_not_added_up(index: MetadataStore) -> None:
    door = Door(index, account=False)
    for _ in range(20):
        door.word.said = PublicityAnswer.DENIED
        door.told(granted=False)
        assert await door.later(2 * ASK_EVERY)
        door.word.said = PublicityAnswer.PUBLIC
        assert await door.later(2 * ASK_EVERY)
    assert await door.rows() == []


@pytest.mark.parametrize("account", [True, False])
async def test_questions_for_missing_content_are_in_no_clients_way(
    index: MetadataStore, account: bool
) -> None:
    door = await suspected(index, account=account)
    await door.lets_in()
    door.word.missing = ProbedContent("manifest", Tag("missing"))
    for _ in range(40):
        door.clock.now += 20
        await door.lets_in(wanted=door.word.missing)
    assert not await door.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    door.clock.now += ASK_EVERY
    assert await door.lets_in(wanted=door.word.missing)
    assert await door.lets_in()


async def test_private_content_stays_so_over_a_restart_while_upstream_is_away(
    index: MetadataStore,
) -> None:
    door = await suspected(index, account=False)
    assert not await door.later(BELIEVED)
    await index.flush()
    door.word.said = PublicityAnswer.UNDECIDED
    later = Door(index, account=False, before=door)
    await later.publicity.load()
    assert not await later.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    door.clock.now += 6
    assert await later.lets_in()
    assert await later.rows() == []


@pytest.mark.parametrize("account", [True, False])
async def test_an_unconfirmed_denial_is_not_remembered_over_a_restart(
    index: MetadataStore, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert await door.later(DENIED_FOR - 20)
    assert await door.rows() == ([(SECRET, True)] if account else [])
    later = Door(index, account=account, before=door)
    await later.publicity.load()
    assert await later.later(DENIED_FOR - 20)


@pytest.mark.parametrize("asked", [True, False])
async def test_content_of_a_former_account_is_private_until_upstream_grants_it(
    index: MetadataStore, asked: bool
) -> None:
    door = Door(index)
    door.word.said = PublicityAnswer.UNDECIDED
    if asked:  # and the answer is undecided
        assert not await door.lets_in()
    for _ in range(2):
        door.told(granted=True)
        assert await door.rows() == [(SECRET, False)]
    later = Door(index, account=False, before=door)
    await later.publicity.load()
    assert not await later.lets_in()
    door.word.said = PublicityAnswer.PUBLIC
    door.clock.now += 6
    assert await later.lets_in()
    assert await later.rows() == []


async def test_what_an_older_version_hid_is_open(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    schema = resources.files("mirror.storage.metadata.sqlite") / "schema"
    older = [(schema / f"000{number}.sql").read_text() for number in range(1, 6)]
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"{';'.join(older)}; PRAGMA user_version=5;")
        database.execute("INSERT INTO publicity VALUES ('docker.io', 'team/secret', 0, 0)")
        database.execute("INSERT INTO publicity VALUES ('docker.io', 'team/public', 1, 0)")
        database.commit()
    index = await open_sqlite(tmp_path)
    try:
        door = Door(index, account=False)
        await door.publicity.load()
        assert await door.lets_in()
        assert door.word.asked == []
        assert await door.rows() == [("team/public", True)]
    finally:
        await index.close()


async def test_no_crowd_of_names_has_it_forgotten_what_the_account_was_given(
    index: MetadataStore,
) -> None:
    door = Door(index)
    door.word.said = PublicityAnswer.DENIED
    door.publicity = Publicity(
        ["docker.io"], index, lambda repository: repository.name == SECRET, door.clock, door.clock
    )
    door.told(granted=True)
    for number in range(20_001):
        door.publicity.get(Repository("docker.io", f"made/up{number}"))
    assert await door.rows() == [(SECRET, False)]


async def test_a_repository_that_never_existed_is_not_remembered(index: MetadataStore) -> None:
    door = Door(index, account=False, holds=False)
    for number in range(1000):
        door.told(granted=False, name=f"made/up{number}")
        assert await door.lets_in(name=f"made/up{number}")
    assert "0 denied" in repr(door.publicity)
    assert door.word.asked == []
    assert await door.rows() == []


async def test_an_upstream_that_fails_is_taken_at_its_last_word_and_given_a_rest(
    index: MetadataStore,
) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.clock.now += PUBLIC_FOR
    door.word.said = PublicityAnswer.UNDECIDED
    for _ in range(3):
        assert await door.lets_in()
    assert len(door.word.asked) == 2


@pytest.mark.parametrize("account", [True, False])
async def test_many_at_once_are_one_question(index: MetadataStore, account: bool) -> None:
    door = await suspected(index, account=account)
    asked = len(door.word.asked)
    assert all(await asyncio.gather(*(door.lets_in() for _ in range(50))))
    assert len(door.word.asked) == asked + 1


async def test_public_content_is_not_listed_where_only_the_account_may_list(
    index: MetadataStore,
) -> None:
    door = Door(index)
    door.word.said = PublicityAnswer.PUBLIC
    assert await door.lets_in()
    door.word.said = PublicityAnswer.UNDECIDED
    assert not await door.lets_in(wanted=None)
    assert await door.lets_in()
    assert await door.lets_in(FRIEND, wanted=None)
    door.word.said = PublicityAnswer.LISTED
    door.clock.now += ASK_EVERY
    assert await door.lets_in(wanted=None)


@given(
    st.lists(
        st.tuples(st.sampled_from("gdunx"), st.sampled_from([0, 1, 30, 60, 61, 300, 2000])),
        max_size=40,
    )
)
def test_a_public_repository_is_held_back_after_a_run_of_denials_only(
    events: list[tuple[str, int]],
) -> None:
    """Upstream gives, denies, is undecided, denies all names, or is suspected, in any order."""
    standing, now, run = Standing(public=True), 0.0, list[float]()
    for event, seconds in events:
        now += seconds
        before = standing.public
        match event:
            case "g":
                standing.given(now, lists=False)
                run.clear()
            case "d":
                standing.denied(now, LATEST, others=True)
                run += [now] if not run or now >= run[-1] + ASK_EVERY else []
            case "x":
                standing.denied(now, LATEST, others=False)
            case "u":
                standing.undecided(now)
            case _:
                standing.suspect(now)
        held = before and not standing.public
        assert not held or (event == "d" and len(run) >= DENIALS and now - run[0] >= DENIED_FOR)
        assert standing.public or event != "g"
        assert standing.public or standing.ask_again <= now + ASK_EVERY


async def test_no_crowd_of_denials_opens_what_another_upstream_denied(
    index: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream may deny any number of names."""
    monkeypatch.setattr("mirror.access.publicity._KEPT", 50)
    clock = Clock()
    publicity = Publicity([], index, lambda _: True, clock, clock)
    mine = Repository("good.test", SECRET)
    publicity.observe(mine, granted=False)
    for number in range(200):
        publicity.observe(Repository("bad.test", f"made/up{number}"), granted=False)
    assert not publicity.open_to_all(mine)


async def test_denials_of_repositories_without_content_are_forgotten(
    index: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.access.publicity._KEPT", 50)
    held: set[Repository] = set()
    publicity = Publicity([], index, held.__contains__, Clock(), Clock())
    for number in range(500):
        repository = Repository("bad.test", f"made/up{number}")
        held.add(repository)
        publicity.observe(repository, granted=False)
        held.discard(repository)
    assert len(publicity._denied) <= 50


async def test_a_yes_of_a_clock_that_was_ahead_is_asked_about_again(index: MetadataStore) -> None:
    """Otherwise a repository hidden since would be public for a day after each restart."""
    door = Door(index)
    door.clock.now += 30 * PUBLIC_FOR
    assert await door.lets_in()
    await index.flush()
    door.clock.now -= 30 * PUBLIC_FOR
    door.word.said = PublicityAnswer.DENIED
    again = Door(index, before=door)
    await again.publicity.load()
    asked = len(door.word.asked)
    await again.lets_in()
    assert len(door.word.asked) > asked
