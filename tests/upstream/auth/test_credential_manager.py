"""An account is renewed in time; a refused one is not tried again, and is reported as refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mirror.oci.errors import Denied
from mirror.upstream.auth.credential_manager import (
    CredentialManager,
    CredentialsRefused,
    LoginRefused,
)
from mirror.upstream.auth.credential_state import FIRST_REST, REST
from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialsUnavailable,
    FoundCredentials,
    PasswordFile,
    RegistryWideSource,
)
from tests.standin import Fault, Hub, Image
from tests.standin.flavours import Ghcr
from tests.standin.terms import Auth
from tests.support.accounts import WORD, upstream
from tests.support.clock import Clock
from tests.support.mirror import Run

REPOSITORY = "library/nginx"


class Vault(RegistryWideSource):
    """A source with a word that the test changes, and with failures."""

    def __init__(self, life: float = 1000) -> None:
        self.word = WORD
        self.life = life
        self.reads = 0
        self.broken = False

    async def read(self, _place: str) -> FoundCredentials:
        """Return the word as it is."""
        self.reads += 1
        if self.broken:
            raise CredentialsUnavailable("the vault is shut", "first\nsecond" + 1000 * "!")
        return FoundCredentials(Credentials("robot", self.word), self.life)


class Mint(Vault):
    """A source with a new word at each read, as clouds and some helpers are."""

    async def read(self, place: str) -> FoundCredentials:
        """Return a new word."""
        self.word = f"{WORD}-{self.reads}"
        return await super().read(place)


class Door:
    """Upstream: accepts one word."""

    def __init__(self, word: str = WORD) -> None:
        self.word = word
        self.tried: list[str] = []

    async def __call__(self, credentials: Credentials) -> str:
        """Accept the word, or refuse it."""
        self.tried.append(credentials.password)
        await asyncio.sleep(0)
        if credentials.password != self.word:
            raise CredentialsRefused("no")
        return credentials.password


Attempt = Callable[[Credentials], Awaitable[str]]


async def outcome(account: CredentialManager, door: Attempt) -> str:
    """Return the result of an attempt, or the name of its error."""
    try:
        return await account.use(REPOSITORY, door)
    except (LoginRefused, CredentialsUnavailable, Denied) as error:
        return type(error).__name__


async def test_credentials_are_read_once_and_renewed_before_they_end() -> None:
    clock, vault, door = Clock(), Vault(1000), Door()
    account = CredentialManager("docker.io", vault, clock)
    for _ in range(3):
        assert await outcome(account, door) == WORD
    assert vault.reads == 1
    clock.now = 801
    assert await outcome(account, door) == WORD
    assert vault.reads == 2


async def test_what_cannot_be_renewed_is_used_to_its_end_and_no_longer() -> None:
    clock, vault, door = Clock(), Vault(1000), Door()
    account = CredentialManager("docker.io", vault, clock)
    await outcome(account, door)
    vault.broken = True
    clock.now = 900
    assert await outcome(account, door) == WORD
    clock.now = 1001
    assert await outcome(account, door) == "CredentialsUnavailable"
    reads = vault.reads
    assert await outcome(account, door) == "CredentialsUnavailable"
    assert vault.reads == reads  # not for each attempt
    vault.broken, clock.now = False, 1010
    assert await outcome(account, door) == WORD


async def test_why_there_is_no_account_is_said_once_and_on_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, vault = Clock(), Vault()
    vault.broken = True
    account = CredentialManager("docker.io", vault, clock)
    for clock.now in (0, 1, 60):
        assert await outcome(account, Door()) == "CredentialsUnavailable"
    [record] = caplog.records
    assert "docker.io is not available: the vault is shut (first second!" in record.message
    assert len(record.message) < 400


async def test_an_unforeseen_failure_of_a_source_is_no_account_and_rests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(Vault):
        async def read(self, _place: str) -> FoundCredentials:
            self.reads += 1
            raise LookupError(WORD)

    clock, vault = Clock(), Odd()
    account = CredentialManager("docker.io", vault, clock)
    for clock.now in (0, 1, 2):
        assert await outcome(account, Door()) == "CredentialsUnavailable"
    assert vault.reads == 1
    [record] = caplog.records
    assert "docker.io is not available" in record.message
    assert "LookupError" in record.message
    assert WORD not in caplog.text


async def test_a_wrong_password_is_two_failed_logins_however_many_ask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, vault, door = Clock(), Vault(), Door("another")
    account = CredentialManager("docker.io", vault, clock)
    with caplog.at_level(logging.WARNING):
        outcomes = await asyncio.gather(*(outcome(account, door) for _ in range(20)))
        clock.now = FIRST_REST - 1
        outcomes.append(await outcome(account, door))
    assert set(outcomes) == {"LoginRefused"}
    assert door.tried == [WORD, WORD]  # the first refusal may be a mistake of upstream's
    [record] = caplog.records
    assert "docker.io refuses the login of 'robot'" in record.message
    assert WORD not in caplog.text


async def test_a_login_refused_to_many_at_once_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The login was accepted before, so that its attempts do not wait for each other."""
    vault, door = Vault(), Door()
    account = CredentialManager("docker.io", vault, Clock())
    await outcome(account, door)
    door.word = "another"
    with caplog.at_level(logging.WARNING):
        outcomes = await asyncio.gather(*(outcome(account, door) for _ in range(20)))
    assert set(outcomes) == {"LoginRefused"}
    assert len(caplog.records) == 1


async def test_a_refused_login_is_tried_again_after_its_rest() -> None:
    clock, vault, door = Clock(), Vault(), Door("another")
    account = CredentialManager("docker.io", vault, clock)
    await outcome(account, door)
    door.word = WORD
    clock.now = FIRST_REST + 1
    assert await outcome(account, door) == WORD


async def test_a_login_refused_again_and_again_is_tried_ever_less_often() -> None:
    """Docker Hub locks accounts after too many failed logins; ten minutes is the longest rest."""
    clock, door = Clock(), Door("another")
    account, tried = CredentialManager("docker.io", Vault(), clock), []
    for clock.now in range(4000):
        before = len(door.tried)
        assert await outcome(account, door) == "LoginRefused"
        if len(door.tried) > before:
            tried.append(clock.now)
    assert tried == [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035, 3635]


@pytest.mark.parametrize("before", [True, False], ids=["taken before", "new"])
async def test_a_login_refused_once_by_mistake_is_tried_again_at_once(before: bool) -> None:
    door = Door()
    account, refusals = CredentialManager("docker.io", Vault(), Clock()), 1

    async def mistaken(credentials: Credentials) -> str:
        nonlocal refusals
        refusals -= 1
        door.word = "another" if refusals >= 0 else WORD
        return await door(credentials)

    if before:
        assert await outcome(account, door) == WORD
    assert await outcome(account, mistaken) == WORD


async def test_a_login_refused_by_mistake_rests_for_seconds_each_time_it_happens() -> None:
    clock, door = Clock(), Door()
    account = CredentialManager("docker.io", Vault(), clock)
    for now in range(0, 1000, 100):
        clock.now, door.word = now, "another"
        assert await outcome(account, door) == "LoginRefused"
        clock.now, door.word = now + FIRST_REST, WORD
        assert await outcome(account, door) == WORD


async def test_credentials_that_seem_expired_are_not_read_for_each_question() -> None:
    """A clock that is hours ahead of the cloud's makes credentials seem so."""
    clock, vault, door = Clock(), Vault(life=0), Door()
    account = CredentialManager("docker.io", vault, clock)
    for clock.now in range(40):
        assert await outcome(account, door) == WORD
    assert vault.reads == 1


async def test_another_password_is_tried_at_once() -> None:
    clock, vault, door = Clock(), Vault(), Door("new")
    account = CredentialManager("docker.io", vault, clock)
    assert await outcome(account, door) == "LoginRefused"
    vault.word = "new"
    clock.now = 6
    assert await outcome(account, door) == "new"


async def test_attempts_that_waited_with_the_old_password_get_the_new_one() -> None:
    vault, door = Vault(), Door("new")
    account = CredentialManager("docker.io", vault, Clock())

    async def change(credentials: Credentials) -> str:
        vault.word = "new"
        return await door(credentials)

    outcomes = await asyncio.gather(*(outcome(account, change) for _ in range(20)))
    assert set(outcomes) == {"new"}
    assert door.tried.count(WORD) == 1


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "no access"])
async def test_attempts_that_waited_for_a_login_do_not_wait_for_each_other(taken: bool) -> None:
    """Nor where a refusal may be one of the repository and not of the login."""
    account, entered = CredentialManager("ghcr.io", Vault(), Clock()), asyncio.Semaphore(0)
    first, rest = asyncio.Event(), asyncio.Event()

    async def enter(_: Credentials) -> str:
        entered.release()
        await (rest if first.is_set() else first).wait()
        if not taken:
            raise CredentialsRefused("no", Denied("no"))
        return WORD

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome(account, enter)) for _ in range(20)]
        await entered.acquire()
        await asyncio.sleep(0)
        assert entered.locked()  # all other attempts wait
        first.set()
        for _ in range(19):
            await entered.acquire()
        rest.set()
    assert {task.result() for task in tasks} == {WORD if taken else "Denied"}


async def test_a_source_with_another_password_each_time_is_not_tried_for_ever() -> None:
    clock, vault, door = Clock(), Mint(), Door("none of these")
    account = CredentialManager("docker.io", vault, clock)
    outcomes = await asyncio.gather(*(outcome(account, door) for _ in range(20)))
    for clock.now in range(6, int(REST), 6):
        outcomes.append(await outcome(account, door))
    assert set(outcomes) == {"LoginRefused"}
    assert len(door.tried) <= 10
    assert vault.reads <= 12  # the cloud is not asked for more passwords either
    door.word = f"{WORD}-{vault.reads}"
    clock.now += 2 * REST
    assert await outcome(account, door) == door.word


async def test_wrong_passwords_in_a_row_do_not_hide_the_right_one_for_ever() -> None:
    clock, vault, door = Clock(), Vault(), Door("new")
    account = CredentialManager("docker.io", vault, clock)
    assert await outcome(account, door) == "LoginRefused"
    vault.word, clock.now = "mistyped", 300
    assert await outcome(account, door) == "LoginRefused"
    vault.word, clock.now = "new", REST + 1
    assert await outcome(account, door) == "new"


async def test_a_password_that_expires_early_is_renewed_each_time() -> None:
    """A helper may give tokens of a minute: each is refused in the end, but none was wrong."""
    clock, vault, door = Clock(), Mint(), Door(f"{WORD}-0")
    account = CredentialManager("docker.io", vault, clock)
    for minute in range(9):
        clock.now, door.word = 60 * minute, f"{WORD}-{minute}"
        assert await outcome(account, door) == door.word


async def test_a_denied_repository_holds_up_no_other_one() -> None:
    account = CredentialManager("ghcr.io", Vault(), Clock())
    assert await outcome(account, Door()) == WORD
    entered, go = asyncio.Event(), asyncio.Event()

    async def may_not(_: Credentials) -> str:
        raise CredentialsRefused("no", Denied("no"))

    async def slowly(credentials: Credentials) -> str:
        entered.set()
        await go.wait()
        return await may_not(credentials)

    assert await outcome(account, may_not) == "Denied"
    async with asyncio.TaskGroup() as group:
        denied = group.create_task(outcome(account, slowly))
        await entered.wait()
        assert await outcome(account, Door()) == WORD
        go.set()
    assert denied.result() == "Denied"


async def test_an_accepted_login_that_is_refused_one_day_finds_the_new_password() -> None:
    clock, vault, door = Clock(), Vault(), Door()
    account = CredentialManager("docker.io", vault, clock)
    assert await outcome(account, door) == WORD
    vault.word = door.word = "new"
    assert await outcome(account, door) == "new"
    assert door.tried == [WORD, WORD, "new"]


async def test_a_refusal_that_may_mean_the_repository_denies_no_other() -> None:
    vault = Vault()
    account = CredentialManager("ghcr.io", vault, Clock())

    async def may_not(_: Credentials) -> str:
        raise CredentialsRefused("no", Denied("no"))

    assert await outcome(account, may_not) == "Denied"
    assert await outcome(account, Door()) == WORD


async def test_a_password_file_that_is_briefly_empty_causes_no_anonymous_login(
    tmp_path: Path,
) -> None:
    """A shell's `>` empties a file before it writes it."""
    clock, door, word = Clock(), Door("old"), tmp_path / "word"
    word.write_text("old\n")
    account = CredentialManager("docker.io", PasswordFile("robot", word), clock)
    assert await outcome(account, door) == "old"
    word.write_text("\n")
    door.word = "new"
    assert await outcome(account, door) == "LoginRefused"
    word.write_text("new\n")
    clock.now = 6
    assert await outcome(account, door) == "new"
    assert "" not in door.tried


async def test_an_empty_password_file_is_no_account_and_looked_at_again(tmp_path: Path) -> None:
    clock, word = Clock(), tmp_path / "word"
    word.write_text("")
    account = CredentialManager("docker.io", PasswordFile("robot", word), clock)
    assert await outcome(account, Door()) == "CredentialsUnavailable"
    word.write_text(WORD)
    clock.now = 6
    assert await outcome(account, Door()) == WORD


async def test_an_account_shows_no_password() -> None:
    account = CredentialManager("docker.io", Vault(), Clock())
    await outcome(account, Door())
    assert WORD not in repr(account) + repr(Credentials("robot", WORD))


# Through a mirror


async def test_a_refused_login_is_called_that_and_not_repeated(
    hub: Hub, run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.terms.users = {"robot": "right"}
    async with run(upstreams=upstream(hub, username="robot", password=WORD)) as mirror:
        for name in ("latest", "other", image.digest):
            got = await mirror.manifest(REPOSITORY, name)
            assert got.status == 403
            assert b"docker.io refuses the login of 'robot'" in got.body
            assert 0 < int(got.headers["Retry-After"]) <= FIRST_REST
            assert WORD.encode() not in got.body
        metrics = (await mirror.ask("/metrics")).body.decode()
    assert hub.count(kind="token") == 2
    out = capfd.readouterr()
    assert WORD not in out.out + out.err + metrics


async def test_a_refused_basic_login_is_not_repeated_either(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": "right"}
    async with run(upstreams=upstream(hub, username="robot", password=WORD)) as mirror:
        for name in ("latest", "other"):
            assert b"refuses the login" in (await mirror.manifest(REPOSITORY, name)).body
    tried = [seen for seen in hub.requests if "authorization" in seen.headers]
    assert [seen.kind for seen in tried] == ["ping", "ping"]


@pytest.mark.parametrize("auth", ["bearer", "basic"])
async def test_a_login_refused_with_a_web_page_is_refused_all_the_same(
    hub: Hub, run: Run, image: Image, auth: Auth
) -> None:
    """The page may be of nginx, or of any other front that checks passwords."""
    hub.terms.auth = auth
    hub.terms.users = {"robot": "right"}
    page = {"Content-Type": "text/html"}
    hub.faults.add(Fault(kind="token", times=None, headers=page))
    hub.faults.add(Fault(at_door=True, times=None, headers=page))
    async with run(upstreams=upstream(hub, username="robot", password=WORD)) as mirror:
        for name in ("latest", "other"):
            got = await mirror.manifest(REPOSITORY, name)
            assert (got.status, b"refuses the login" in got.body) == (403, True)
    tried = [seen for seen in hub.requests if "authorization" in seen.headers]
    assert len(tried) == 2


@pytest.mark.parametrize("status", [200, 400, 403, 502])
async def test_another_web_page_is_no_refused_login(
    hub: Hub, run: Run, image: Image, status: int
) -> None:
    hub.terms.users = {"robot": WORD}
    hub.faults.add(Fault.page("token", times=None, status=status))
    async with run(upstreams=upstream(hub, username="robot", password=WORD)) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.status >= 500, b"refuses the login" in got.body) == (True, False)
        hub.faults.clear()
        await mirror.pull(REPOSITORY, "latest", image)


async def test_a_login_refused_without_a_challenge_is_not_repeated_either(
    hub: Hub, run: Run, image: Image
) -> None:
    """The login was accepted before, and RFC 9110 requires a challenge with each 401."""
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": WORD}
    account = upstream(hub, username="robot", password=WORD, auth="basic")
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        hub.terms.users = {"robot": "another"}
        hub.faults.add(Fault(at_door=True, times=None, headers={"WWW-Authenticate": None}))
        before = len(hub.requests)
        for name in ("a", "b", "c", "d"):
            assert (await mirror.manifest(REPOSITORY, name)).status == 403
    tried = [seen.kind for seen in hub.requests[before:] if "authorization" in seen.headers]
    assert tried == ["manifest", "ping", "ping"]


async def test_stored_content_outlives_a_refused_login(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.users = {"robot": WORD}
    account = upstream(hub, username="robot", password=WORD)
    async with run(upstreams=account, tag_ttl=0) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        hub.terms.users = {"robot": "another"}
        hub.tokens.revoke()
        for _ in range(2):
            got = await mirror.manifest(REPOSITORY, "latest")
            assert (got.status, got.body) == (200, image.manifest)
            assert "Warning" in got.headers


@pytest.mark.parametrize("auth", ["bearer", "basic"])
async def test_a_password_file_is_read_again_when_the_login_fails(
    hub: Hub, run: Run, image: Image, tmp_path: Path, auth: Auth
) -> None:
    hub.terms.auth = auth
    word = tmp_path / "word"
    word.write_text("old\n")
    hub.terms.users = {"robot": "old"}
    account = upstream(hub, username="robot", password_file=str(word), auth=auth)
    async with run(upstreams=account) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        word.write_text("new\n")
        hub.terms.users = {"robot": "new"}
        hub.tokens.revoke()
        await mirror.pull(REPOSITORY, "latest", image)


async def test_a_refusal_of_ghcrs_is_told_with_both_of_its_meanings(
    hub: Hub, run: Run, image: Image
) -> None:
    account = upstream(hub, username="octocat", password=WORD)
    async with Ghcr(hub, {"octocat": "right"}), run(upstreams=account) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.status == 403
        assert b"refuses the login of 'octocat', or gives it no access" in got.body
