"""Access: nobody gets through the mirror what was not given to them, kept or not."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.access import Access, Private, Rules
from mirror.cache.caller import Caller
from mirror.cache.publicity import Publicity
from mirror.cache.standing import ASK_EVERY, DENIALS, DENIED_FOR, PUBLIC_FOR, Standing
from mirror.oci.errors import NotAllowed
from mirror.oci.names import Repository, Tag
from mirror.oci.patterns import Patterns
from mirror.store.index import Index
from mirror.store.recovery import open_index
from mirror.upstream.inquiry import Said, Wanted
from tests.clock import Clock
from tests.conftest import Mirror, Run
from tests.standin import Fault, Hub, Image, make_image, make_index
from tests.test_client_logins import TOKEN, clients

WORD = "s3cret-word"
PUBLIC, SECRET, LIAR = "library/nginx", "team/secret", "mallory/app"
BELIEVED = DENIED_FOR + ASK_EVERY  # seconds; the first question is not asked at once
LATEST = Wanted("manifest", Tag("latest"))
STRANGER, FRIEND = Caller("10.0.0.1"), Caller("10.0.0.2", "friend")


@pytest.fixture
def secret(hub: Hub) -> Image:
    """An image that only the mirror's account may read."""
    hub.terms.users = {"robot": WORD}
    image = make_image(5, [200_000])
    hub.add(image, SECRET, "latest")
    hub.make_private(SECRET, "robot")
    return image


def account(hub: Hub, **more: object) -> dict[str, object]:
    """Configure the hub with an account."""
    return {"docker.io": {"url": hub.url, "username": "robot", "password": WORD, **more}}


def ways(repository: str, image: Image) -> list[tuple[str, str]]:
    """Return every way to read something of an image."""
    base, layer = f"/v2/{repository}", image.layers[0].digest
    return [
        (method, f"{base}/{rest}")
        for method in ("GET", "HEAD")
        for rest in (
            "manifests/latest",
            f"manifests/{image.digest}",
            f"blobs/{layer}",
            f"blobs/{image.blobs[-1].digest}",
            "tags/list",
            f"referrers/{image.digest}",
        )
    ]


async def refused(mirror: Mirror, repository: str, image: Image) -> None:
    """Check that nothing of an image can be had, in no way."""
    for method, path in ways(repository, image):
        got = await mirror.ask(path, method, Range="bytes=0-3")
        assert got.status == 403, (method, path)
        assert method == "HEAD" or b'"DENIED"' in got.body


# Patterns


@pytest.mark.parametrize("rules", [{"allow": ["team/**"]}, {"deny": ["library/*"]}])
async def test_what_is_not_allowed_or_denied_is_not_given_though_it_is_kept(
    hub: Hub, run: Run, image: Image, rules: dict[str, list[str]]
) -> None:
    async with run() as mirror:
        await mirror.pull(PUBLIC, "latest", image)
    hub.journal.clear()
    async with run(upstreams={"docker.io": {"url": hub.url, **rules}}) as mirror:
        await refused(mirror, PUBLIC, image)
        got = await mirror.manifest(PUBLIC, "latest")
        assert PUBLIC.encode() in got.body
        assert (b"team/**" in got.body) == ("allow" in rules)
        assert b"library/*" not in got.body  # what else is denied is not told
        assert (await mirror.ask("/v2/")).status == 200
    assert hub.requests == []


async def test_deny_beats_allow(hub: Hub, run: Run, image: Image) -> None:
    rules = {"allow": ["library/*"], "deny": ["library/nginx"]}
    hub.add(image, "library/other", "latest")
    async with run(upstreams={"docker.io": {"url": hub.url, **rules}}) as mirror:
        await refused(mirror, PUBLIC, image)
        await mirror.pull("library/other", "latest", image)


# Private repositories


@pytest.mark.parametrize("private", ["nobody", "authenticated"])
async def test_a_private_repository_is_not_given_to_everybody_though_it_is_kept(
    hub: Hub, run: Run, secret: Image, private: str
) -> None:
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    async with run(upstreams=account(hub, private=private)) as mirror:
        await refused(mirror, SECRET, secret)
    assert hub.pulls == 1


async def test_a_public_repository_is_given_to_everybody_and_asked_about_once(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(upstreams=account(hub)) as mirror:
        await asyncio.gather(*(mirror.manifest(PUBLIC, "latest") for _ in range(10)))
        await mirror.pull(PUBLIC, "latest", image)
        assert hub.count(kind="tags") == 2  # the first of all meets a 401
        assert hub.pulls == 1
        hub.journal.clear()
        await mirror.pull(PUBLIC, "latest", image)
        assert hub.requests == []


async def test_the_question_shows_no_credentials(hub: Hub, run: Run, secret: Image) -> None:
    async with run(upstreams=account(hub)) as mirror:
        assert (await mirror.manifest(SECRET, "latest")).status == 403
    assert hub.requests
    assert not [seen for seen in hub.requests if "Basic" in seen.headers.get("authorization", "")]


async def test_what_upstream_said_outlives_a_restart_and_its_outage(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        assert (await mirror.manifest(SECRET, "latest")).status == 403
    await hub.down()
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        await refused(mirror, SECRET, secret)
    await hub.up()


async def test_what_upstream_never_said_anything_of_is_private_while_it_is_down(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
    await hub.down()
    async with run(upstreams=account(hub), tag_ttl=3600) as mirror:
        assert (await mirror.manifest(PUBLIC, "latest")).status == 403
    await hub.up()


async def test_everyone_is_everyone_and_nothing_is_asked(hub: Hub, run: Run, secret: Image) -> None:
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    assert hub.count(kind="tags") == 0


async def test_a_registry_with_basic_logins_gives_nobody_anything(
    hub: Hub, run: Run, secret: Image
) -> None:
    hub.terms.auth = "basic"
    async with run(upstreams=account(hub)) as mirror:
        await refused(mirror, SECRET, secret)


# What becomes private


def hide(hub: Hub) -> None:
    """Have upstream give the public repository to its account only, from now on."""
    hub.terms.users = {"robot": WORD}
    hub.make_private(PUBLIC, "robot")
    hub.tokens.revoke()


async def provoke(mirror: Mirror) -> None:
    """Have a client ask for what is not kept, which upstream denies."""
    assert (await mirror.blob(PUBLIC, make_image(9).layers[0].digest)).status == 403


async def held_back(mirror: Mirror, clock: Clock, image: Image) -> float:
    """Let time go by, ten seconds with each request, until nothing is given any more.

    Returns how many seconds that took.
    """
    began = clock.now
    await provoke(mirror)
    async with asyncio.timeout(30):
        while (await mirror.manifest(PUBLIC, image.digest)).status == 200:
            clock.now += 10
    return clock.now - began


@pytest.mark.parametrize("how", ["hidden", "gone"])
async def test_what_upstream_denies_is_given_to_nobody_once_that_is_confirmed(
    hub: Hub, run: Run, image: Image, how: str
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        assert (await mirror.ask(f"/v2/{PUBLIC}/tags/list")).status == 200
        hide(hub) if how == "hidden" else (hub.remove(PUBLIC), hub.tokens.revoke())
        assert DENIED_FOR <= await held_back(mirror, clock, image) <= 2 * DENIED_FOR
        await refused(mirror, PUBLIC, image)
    await hub.down()
    async with run(tag_ttl=0) as mirror:
        await refused(mirror, PUBLIC, image)
    await hub.up()


async def test_what_upstream_denies_is_asked_about_once_a_minute_and_open_when_it_is_given(
    hub: Hub, run: Run, image: Image
) -> None:
    clock = Clock()
    async with run(clock, tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hide(hub)
        await held_back(mirror, clock, image)
        await refused(mirror, PUBLIC, image)
        hub.journal.clear()
        await refused(mirror, PUBLIC, image)
        assert hub.requests == []
        clock.now += ASK_EVERY
        assert (await mirror.manifest(PUBLIC, image.digest)).status == 403
        hub.repositories.make(PUBLIC).readers = None
        clock.now += ASK_EVERY
        await mirror.pull(PUBLIC, "latest", image)
    async with run(tag_ttl=3600) as mirror:
        hub.journal.clear()
        assert (await mirror.manifest(PUBLIC, image.digest)).status == 200
    assert hub.requests == []


@pytest.mark.parametrize("private", ["nobody", "authenticated"])
async def test_what_upstream_denies_is_private_as_any_other(
    hub: Hub, run: Run, image: Image, private: str
) -> None:
    upstreams = {"docker.io": {"url": hub.url, "private": private}}
    clock = Clock()
    async with run(clock, tag_ttl=0, upstreams=upstreams, clients=clients()) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hide(hub)
        await held_back(mirror, clock, image)
        path = f"/v2/{PUBLIC}/manifests/{image.digest}"
        got = await mirror.ask(path, Authorization=f"Bearer {TOKEN}")
        assert got.status == (200 if private == "authenticated" else 403)
        assert (await mirror.ask(path)).status == 403


async def test_what_upstream_denies_its_account_is_public_no_more(
    hub: Hub, run: Run, secret: Image, image: Image
) -> None:
    clock = Clock()
    async with run(clock, upstreams=account(hub), tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.make_private(PUBLIC, "another")
        hub.tokens.revoke()
        assert DENIED_FOR <= await held_back(mirror, clock, image) <= 2 * DENIED_FOR
        await refused(mirror, PUBLIC, image)


async def test_what_is_hidden_from_everybody_but_the_account_is_public_no_more(
    hub: Hub, run: Run, image: Image
) -> None:
    """Where the registry says 404 of what it hides, and nothing is denied to the account."""
    hub.terms.users, hub.terms.auth = {"robot": WORD}, "none"
    clock = Clock()
    async with run(clock, upstreams=account(hub, auth="basic"), tag_ttl=0) as mirror:
        await mirror.pull(PUBLIC, "latest", image)


# Across repositories


def lie(hub: Hub, about: Image) -> None:
    """Have a public repository whose manifest lists another's blobs, which it does not hold."""
    hub.add(about, LIAR, "latest")
    hub.repositories.make(LIAR).blobs.clear()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_manifest_that_lists_anothers_blob_does_not_get_it(
    hub: Hub, run: Run, secret: Image, kept: bool
) -> None:
    lie(hub, secret)
    layer = secret.layers[0].digest
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
    async with run(upstreams=account(hub)) as mirror:
        if kept:
            assert (await mirror.manifest(LIAR, "latest")).status == 200
        for digest in (layer, secret.blobs[-1].digest):
            for method in ("HEAD", "GET"):
                assert (await mirror.blob(LIAR, digest, method)).status == 404
        await hub.down()
        assert (await mirror.blob(LIAR, layer)).status in (404, 503)
        await hub.up()


async def test_an_index_that_lists_anothers_manifest_does_not_get_it(
    hub: Hub, run: Run, secret: Image
) -> None:
    index = make_index([secret])
    hub.add(index, LIAR, "latest")
    hub.repositories.make(LIAR).manifests.pop(secret.digest)
    hub.repositories.make(LIAR).blobs.clear()
    async with run(upstreams=account(hub, private="everyone")) as mirror:
        await mirror.pull(SECRET, "latest", secret)
        assert (await mirror.manifest(LIAR, "latest")).body == index.manifest
        for method in ("HEAD", "GET"):
            assert (await mirror.manifest(LIAR, secret.digest, method)).status == 404


async def test_a_shared_layer_costs_each_repository_one_question_for_ever(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.add(image, "team/b", "latest")
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull(PUBLIC, "latest", image)
        hub.journal.clear()
        await mirror.pull("team/b", "latest", image)
        asked = [seen for seen in hub.requests if seen.port == "registry" and seen.kind == "blob"]
        assert sorted(seen.reference or "" for seen in asked if seen.status != 401) == sorted(
            blob.digest for blob in image.blobs
        )
        assert all(seen.method == "HEAD" for seen in asked)
    await hub.down()
    async with run(tag_ttl=3600) as mirror:
        await mirror.pull("team/b", "latest", image)
    await hub.up()


async def test_a_layer_on_its_way_is_asked_for_once_in_each_repository(
    hub: Hub, mirror: Mirror
) -> None:
    shared = make_image(7, [6_000_000])
    layer = shared.layers[0]
    for repository in (PUBLIC, "team/b"):
        hub.add(shared, repository, "latest")
    go = asyncio.Event()
    hub.faults.add(Fault(kind="blob", method="GET", stall_after=3_000_000, until=go))
    async with mirror.request(f"/v2/{PUBLIC}/blobs/{layer.digest}") as owner:
        await owner.content.readexactly(1000)
        for _ in range(3):
            async with mirror.request(f"/v2/team/b/blobs/{layer.digest}") as other:
                await other.content.readexactly(1000)
        heads = hub.journal.matching(port="registry", method="HEAD", repository="team/b")
        assert len([seen for seen in heads if seen.status != 401]) == 1
        go.set()
        await owner.read()


# The decision


class Word:
    """An upstream's word on all its repositories, asked as nobody, or as its account."""

    def __init__(self) -> None:
        self.said = Said.LISTED
        self.missing: Wanted | None = None  # of which it says so
        self.up = True  # whether it answers for others
        self.hidden = False  # whether its account is given what others are told is missing
        self.asked: list[Wanted | None] = []

    async def ask(self, _repository: str, wanted: Wanted | None) -> Said:
        """Return it."""
        self.asked.append(wanted)
        await asyncio.sleep(0)
        return Said.MISSING if wanted and wanted == self.missing else self.said

    async def hides(self, _repository: str, _wanted: Wanted) -> bool:
        """Return it."""
        return self.hidden

    async def answers(self) -> bool:
        """Return it."""
        return self.up


class Door:
    """The door of an upstream, which is pulled from with an account or without."""

    def __init__(
        self,
        index: Index,
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
        rules = {"docker.io": Rules(Patterns(["**"]), Patterns(()), private)}
        self.access = Access(rules, {"docker.io": self.word}, self.publicity, 1)

    async def lets_in(
        self, caller: Caller = STRANGER, wanted: Wanted | None = LATEST, name: str = SECRET
    ) -> bool:
        """Return what the door says to one who asks for something, once all is asked."""
        try:
            await self.access.admit(Repository("docker.io", name), caller, wanted)
        except NotAllowed:
            return False
        finally:
            for _ in range(5):  # what is asked behind the request's back
                await asyncio.sleep(0)
        return True

    def told(self, granted: bool, name: str = SECRET) -> None:
        """Have the registry give us something of a repository, or deny it."""
        self.publicity.told(Repository("docker.io", name), granted)

    async def later(self, seconds: float, *, every: float = 20.0) -> bool:
        """Let time go by in which strangers come; returns whether the last of them is let in."""
        end, let_in = self.clock.now + seconds, True
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + every, end)
            let_in = await self.lets_in()
        return let_in

    async def rows(self) -> list[tuple[str, bool]]:
        """Return what the index has of whether repositories are public."""
        await self.index.flush()
        return [(row[1], bool(row[2])) for row in await self.index.publicity()]


@pytest.mark.parametrize(
    ("private", "stranger", "friend"),
    [("nobody", False, False), ("authenticated", False, True), ("everyone", True, True)],
)
async def test_who_may_read_what_is_private(
    index: Index, private: Private, stranger: bool, friend: bool
) -> None:
    door = Door(index, private)
    door.word.said = Said.DENIED
    assert await door.lets_in() is stranger
    assert await door.lets_in(FRIEND) is friend
    assert len(door.word.asked) == (0 if private == "everyone" else 1)


async def test_a_client_may_read_no_more_than_its_own_list(index: Index) -> None:
    door = Door(index, "everyone")
    assert await door.lets_in(Caller("10.0.0.2", "friend", Patterns(["team/*"])))
    assert not await door.lets_in(Caller("10.0.0.2", "friend", Patterns(["org/*"])))
    assert not await door.lets_in(Caller("10.0.0.2", None, Patterns(())))


async def test_upstreams_yes_lasts_for_a_day(index: Index) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.word.said = Said.DENIED
    door.clock.now += PUBLIC_FOR - 1
    assert await door.lets_in()
    assert len(door.word.asked) == 1


async def test_what_is_private_is_public_within_a_minute_of_upstreams_yes(index: Index) -> None:
    door = Door(index)
    door.word.said = Said.DENIED
    assert not await door.lets_in()
    door.word.said = Said.GIVEN
    door.clock.now += ASK_EVERY - 1
    assert not await door.lets_in()
    assert len(door.word.asked) == 1
    door.clock.now += 1
    assert await door.lets_in()


@pytest.mark.parametrize("said", [Said.MISSING, Said.NOTHING])
async def test_what_cannot_be_told_is_closed_for_seconds(index: Index, said: Said) -> None:
    door = Door(index)
    door.word.said = said
    assert not await door.lets_in()
    door.word.said = Said.GIVEN
    assert not await door.lets_in()
    door.clock.now += 6
    assert await door.lets_in()
    assert await door.rows() == [(SECRET, True)]


# Denials


async def suspected(index: Index, *, account: bool) -> Door:
    """Return a door whose upstream gave a repository to everybody, and denies it now."""
    door = Door(index, account=account)
    assert await door.lets_in()
    door.told(granted=False)
    door.word.said = Said.DENIED
    return door


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_is_believed_after_three_questions_over_ten_minutes(
    index: Index, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert await door.lets_in()
    assert await door.later(DENIED_FOR - 20)
    assert await door.later(20)  # whoever has the question asked does not wait for the answer
    assert not await door.lets_in()
    assert await door.lets_in(FRIEND)
    asked = len(door.word.asked) - account
    assert DENIALS <= asked <= DENIED_FOR / ASK_EVERY + 1


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_that_is_seldom_asked_about_is_believed_after_three_questions(
    index: Index, account: bool
) -> None:
    door = await suspected(index, account=account)
    for _ in range(DENIALS):
        assert await door.lets_in()
        door.clock.now += 3600
    assert not await door.lets_in()


@pytest.mark.parametrize("account", [True, False])
async def test_one_yes_ends_a_denial(index: Index, account: bool) -> None:
    door = await suspected(index, account=account)
    assert await door.later(DENIED_FOR - 20)
    door.word.said = Said.GIVEN
    assert await door.later(ASK_EVERY)
    door.word.said = Said.DENIED
    door.told(granted=False)
    assert await door.later(DENIED_FOR - 20)


async def test_a_pull_that_is_granted_ends_a_denial_of_an_upstream_without_account(
    index: Index,
) -> None:
    door = await suspected(index, account=False)
    assert not await door.later(BELIEVED)
    assert await door.rows() == [(SECRET, False)]
    door.told(granted=True)
    assert await door.lets_in()
    assert await door.rows() == []


async def test_what_the_account_is_given_is_no_yes_for_others(index: Index) -> None:
    door = await suspected(index, account=True)
    for _ in range(32):
        door.told(granted=True)
        await door.later(20)
    assert not await door.lets_in()


@pytest.mark.parametrize("account", [True, False])
async def test_what_is_held_back_is_open_within_a_minute_of_upstreams_yes(
    index: Index, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert not await door.later(BELIEVED)
    asked = len(door.word.asked)
    assert not await door.later(600)
    assert len(door.word.asked) - asked <= 600 / ASK_EVERY
    door.word.said = Said.GIVEN
    assert await door.later(ASK_EVERY)
    assert await door.lets_in()
    assert await door.rows() == ([(SECRET, True)] if account else [])


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_of_everybody_is_never_believed(index: Index, account: bool) -> None:
    door = await suspected(index, account=account)
    door.word.up = False
    assert await door.later(10 * DENIED_FOR)
    door.word.up = True  # from now on it counts
    assert await door.later(DENIED_FOR)
    assert not await door.later(2 * ASK_EVERY)


async def test_another_repository_that_is_granted_shows_that_the_registry_answers(
    index: Index,
) -> None:
    door = Door(index, account=False)
    door.told(granted=True, name="team/other")
    door.told(granted=False)
    door.word.said, door.word.up = Said.DENIED, False
    assert await door.later(2 * DENIED_FOR)  # that was before
    for _ in range(33):
        door.told(granted=True, name="team/other")
        await door.later(20)
    assert not await door.lets_in()


@pytest.mark.parametrize("said", [Said.NOTHING, Said.MISSING])
async def test_what_says_nothing_holds_nothing_back(index: Index, said: Said) -> None:
    door = await suspected(index, account=False)
    door.word.said = said
    assert await door.later(3 * DENIED_FOR)
    assert len(door.word.asked) <= 3 * DENIED_FOR / ASK_EVERY + 1


async def test_what_everybody_is_told_is_missing_and_the_account_is_given_is_denied(
    index: Index,
) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.clock.now += PUBLIC_FOR
    door.word.said = Said.MISSING
    assert await door.later(2 * DENIED_FOR)  # it is gone for everybody
    door.word.hidden = True
    assert not await door.later(DENIED_FOR + 2 * ASK_EVERY)


async def test_mistakes_now_and_then_are_not_added_up(index: Index) -> None:
    door = Door(index, account=False)
    for _ in range(20):
        door.word.said = Said.DENIED
        door.told(granted=False)
        assert await door.later(2 * ASK_EVERY)
        door.word.said = Said.GIVEN
        assert await door.later(2 * ASK_EVERY)
    assert await door.rows() == []


@pytest.mark.parametrize("account", [True, False])
async def test_who_asks_for_what_is_missing_is_in_nobodys_way(index: Index, account: bool) -> None:
    door = await suspected(index, account=account)
    await door.lets_in()
    door.word.missing = Wanted("manifest", Tag("missing"))
    for _ in range(40):
        door.clock.now += 20
        await door.lets_in(wanted=door.word.missing)
    assert not await door.lets_in()
    door.word.said = Said.GIVEN
    door.clock.now += ASK_EVERY
    assert await door.lets_in(wanted=door.word.missing)
    assert await door.lets_in()


async def test_what_was_held_back_stays_so_through_a_restart_while_upstream_cannot_be_asked(
    index: Index,
) -> None:
    door = await suspected(index, account=False)
    assert not await door.later(BELIEVED)
    await index.flush()
    door.word.said = Said.NOTHING
    later = Door(index, account=False, before=door)
    await later.publicity.load()
    assert not await later.lets_in()
    door.word.said = Said.GIVEN
    door.clock.now += 6
    assert await later.lets_in()
    assert await later.rows() == []


@pytest.mark.parametrize("account", [True, False])
async def test_a_denial_that_is_not_believed_yet_is_not_remembered_through_a_restart(
    index: Index, account: bool
) -> None:
    door = await suspected(index, account=account)
    assert await door.later(DENIED_FOR - 20)
    assert await door.rows() == ([(SECRET, True)] if account else [])
    later = Door(index, account=account, before=door)
    await later.publicity.load()
    assert await later.later(DENIED_FOR - 20)


async def test_what_an_older_version_hid_is_open(tmp_path: Path) -> None:
    path = tmp_path / "older.db"
    schema = resources.files("mirror.store") / "schema"
    older = [(schema / f"000{number}.sql").read_text() for number in range(1, 6)]
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"{';'.join(older)}; PRAGMA user_version=5;")
        database.execute("INSERT INTO publicity VALUES ('docker.io', 'team/secret', 0, 0)")
        database.execute("INSERT INTO publicity VALUES ('docker.io', 'team/public', 1, 0)")
        database.commit()
    index = await open_index(path)
    try:
        door = Door(index, account=False)
        await door.publicity.load()
        assert await door.lets_in()
        assert door.word.asked == []
        assert await door.rows() == [("team/public", True)]
    finally:
        await index.close()


async def test_what_was_never_there_is_not_remembered(index: Index) -> None:
    door = Door(index, account=False, holds=False)
    for number in range(1000):
        door.told(granted=False, name=f"made/up{number}")
        assert await door.lets_in(name=f"made/up{number}")
    assert "0 denied" in repr(door.publicity)
    assert door.word.asked == []
    assert await door.rows() == []


async def test_an_upstream_that_fails_is_taken_at_its_last_word_and_given_a_rest(
    index: Index,
) -> None:
    door = Door(index)
    assert await door.lets_in()
    door.clock.now += PUBLIC_FOR
    door.word.said = Said.NOTHING
    for _ in range(3):
        assert await door.lets_in()
    assert len(door.word.asked) == 2


@pytest.mark.parametrize("account", [True, False])
async def test_many_at_once_are_one_question(index: Index, account: bool) -> None:
    door = await suspected(index, account=account)
    asked = len(door.word.asked)
    assert all(await asyncio.gather(*(door.lets_in() for _ in range(50))))
    assert len(door.word.asked) == asked + 1


async def test_what_everybody_may_pull_is_not_listed_where_the_account_alone_may_list(
    index: Index,
) -> None:
    door = Door(index)
    door.word.said = Said.GIVEN
    assert await door.lets_in()
    door.word.said = Said.NOTHING
    assert not await door.lets_in(wanted=None)
    assert await door.lets_in()
    assert await door.lets_in(FRIEND, wanted=None)
    door.word.said = Said.LISTED
    door.clock.now += ASK_EVERY
    assert await door.lets_in(wanted=None)


@given(st.lists(st.tuples(st.sampled_from("gdunx"), st.floats(0, 2000)), max_size=40))
def test_a_public_repository_is_held_back_after_a_run_of_denials_only(
    events: list[tuple[str, float]],
) -> None:
    """Whatever upstream says, and whenever: given, denied, undecided, denied to all, suspected."""
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
                run.append(now)
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
