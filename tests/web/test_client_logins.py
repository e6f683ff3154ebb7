"""Client logins: each right login gets its access, and none is asked for unless configured."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path

import bcrypt
import pytest

from mirror.identity.client import is_client_name
from mirror.oci.patterns import Patterns
from mirror.settings import ConfigurationError, load
from mirror.web.auth.authenticator import ConfiguredClient
from mirror.web.auth.htpasswd import Htpasswd, HtpasswdError
from tests.standin import Hub, Image, make_image
from tests.support.mirror import Got, Mirror, Run

REPOSITORY = "library/nginx"
PATH = f"/v2/{REPOSITORY}/manifests/latest"
TOKEN, OTHER = "0123456789abcdef-ci", "0123456789abcdef-release"
WORD = "pass:word ü"


def hashed(password: str) -> str:
    """Hash a password at bcrypt's lowest cost."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> str:
    """The header of a Basic login."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A file with one user."""
    file = tmp_path / "users"
    file.write_text(f"# who\n\nalice:{hashed(WORD)}\n")
    return file


def clients(**allow: list[str]) -> dict[str, object]:
    """Two clients with tokens."""
    ci = {"token": TOKEN, "allow": allow.get("ci", ["**"])}
    return {"ci": ci, "release": {"token": OTHER}}


def write(file: Path, text: str | None) -> None:
    """Write a file, or delete it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


def add(file: Path, name: str, hashed: str) -> None:
    """Add a user."""
    file.write_text(f"{file.read_text()}{name}:{hashed}\n")


async def ask(mirror: Mirror, login: str) -> Got:
    return await mirror.ask(PATH, Authorization=login)


async def test_a_client_gets_in_with_its_token_in_either_form(
    run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    async with run(clients=clients()) as mirror:
        for login in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic("ci", TOKEN)):
            assert (await ask(mirror, login)).body == image.manifest
    lines = [line for line in capfd.readouterr().err.splitlines() if "manifests" in line]
    assert all("user=ci " in line for line in lines)
    assert len(lines) == 3


async def test_a_user_gets_in_with_the_password_of_the_file(
    run: Run, image: Image, users: Path
) -> None:
    async with run(htpasswd=users) as mirror:
        assert (await ask(mirror, basic("alice", WORD))).body == image.manifest


@pytest.mark.parametrize(
    "login",
    [
        "Bearer " + TOKEN[:-1],
        "Bearer ",
        "Bearer",
        basic("ci", OTHER),  # another client's
        basic("", TOKEN),
        basic("alice", "wrong"),
        basic("alice", WORD + "!"),
        basic("alice", f"{WORD}\0"),
        basic("alice", ""),
        basic("bob", WORD),
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Digest username=alice",
    ],
)
async def test_a_wrong_login_is_refused_though_everyone_may_read(
    run: Run, image: Image, users: Path, login: str
) -> None:
    async with run(htpasswd=users, clients=clients()) as mirror:
        got = await ask(mirror, login)
        assert got.status == 403
        assert b'"DENIED"' in got.body
        assert "WWW-Authenticate" not in got.headers
        assert "mirror_logins_refused_total 1.0" in (await mirror.ask("/metrics")).body.decode()
        assert (await mirror.ask(PATH)).body == image.manifest


async def test_nobody_is_asked_to_log_in_unless_that_is_wanted(run: Run, image: Image) -> None:
    async with run(clients=clients()) as mirror:
        assert (await mirror.ask("/v2/")).status == 200
        assert (await mirror.ask(PATH)).status == 200
    async with run(clients=clients(), challenge=True) as mirror:
        for path in ("/v2/", PATH, f"/v2/{REPOSITORY}/blobs/{image.layers[0].digest}"):
            got = await mirror.ask(path)
            assert got.status == 401
            assert got.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert (await ask(mirror, "Bearer no")).status == 401
        assert (await ask(mirror, f"Bearer {TOKEN}")).status == 200
        assert (await mirror.ask("/v2/", Authorization=basic("ci", TOKEN))).status == 200


async def test_probes_and_metrics_want_no_login(run: Run) -> None:
    async with run(clients=clients(), challenge=True) as mirror:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await mirror.ask(path)).status == 200


async def test_a_login_for_another_server_is_ignored_without_users_or_clients(
    mirror: Mirror, image: Image
) -> None:
    assert (await ask(mirror, basic("hub-user", "hub-password"))).body == image.manifest


async def test_a_client_reads_what_it_may_and_nothing_else(run: Run, image: Image) -> None:
    async with run(clients=clients(ci=["other/*"])) as mirror:
        assert (await ask(mirror, f"Bearer {OTHER}")).status == 200
        got = await ask(mirror, f"Bearer {TOKEN}")
        assert got.status == 403
        assert b"ci may not read" in got.body


@pytest.mark.parametrize("anonymous", [[], ["open/*", "other/*"]])
async def test_without_a_login_one_reads_what_is_anonymous_and_nothing_else(
    hub: Hub, run: Run, image: Image, anonymous: list[str]
) -> None:
    """Without this, a client would read more than its own list by leaving its login out."""
    hub.add(image, "open/image", "latest")
    async with run(clients=clients(ci=["open/*"]), anonymous=anonymous) as mirror:
        assert (await ask(mirror, f"Bearer {OTHER}")).body == image.manifest
        for got in (await mirror.ask(PATH), await ask(mirror, f"Bearer {TOKEN}")):
            assert got.status == 403
            assert "WWW-Authenticate" not in got.headers
        assert b"requires a login to this mirror" in (await mirror.ask(PATH)).body
        got = await mirror.ask("/v2/open/image/manifests/latest")
        assert got.status == (200 if anonymous else 403)
        assert (await mirror.ask("/v2/")).status == 200


def test_rules_without_anonymous_access_need_users_or_clients() -> None:
    with pytest.raises(ConfigurationError, match="anonymous needs htpasswd, client_ca, or the"):
        load({"anonymous": ["library/*"]})
    assert load({"anonymous": [], "htpasswd": "users"}).anonymous == ()


async def test_a_users_table_bounds_the_user(run: Run, image: Image, users: Path) -> None:
    table = {"alice": {"allow": ["other/*"]}}
    async with run(htpasswd=users, clients=table) as mirror:
        assert (await ask(mirror, basic("alice", WORD))).status == 403


async def test_private_content_is_for_logged_in_clients(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.users = {"robot": "s3cret"}
    hub.make_private(REPOSITORY, "robot")
    account = {"url": hub.url, "username": "robot", "password": "s3cret"}
    async with run(clients=clients(), upstreams={"docker.io": account}) as mirror:
        assert (await ask(mirror, f"Bearer {TOKEN}")).body == image.manifest
        assert (await mirror.ask(PATH)).status == 403  # it is cached, and still private


async def test_the_file_is_followed_and_a_broken_one_is_not(
    users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = Htpasswd(users)
    assert await file.check("alice", WORD)
    write(users, f"bob:{hashed('other')}\n")
    await file.renew()
    assert await file.check("bob", "other")
    assert file.remembers("alice", WORD) is None
    assert not await file.check("alice", WORD)
    for text in ("nonsense", None):
        write(users, text)
        await file.renew()
        assert await file.check("bob", "other")
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert ["line 1" in errors[0], "cannot be read" in errors[1]] == [True, True]
    assert "nonsense" not in caplog.text
    await file.close()


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:plain-word",
        "alice:$apr1$abc$0123456789",
        "alice:{SHA}0123456789=",
        "alice:$2y$31$" + 53 * "a",
        "10.0.0.1:$2y$05$" + 53 * "a",
        ":$2y$05$" + 53 * "a",
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_by_its_line_alone(
    run: Run, users: Path, line: str
) -> None:
    write(users, f"# who\n{line}\n")
    with pytest.raises(HtpasswdError, match="line 2: ") as caught:
        Htpasswd(users)
    assert line.partition(":")[2] not in str(caught.value) or ":" not in line
    with pytest.raises(ConfigurationError, match=r"htpasswd is '.*': line 2"):
        async with run(htpasswd=users):
            pass


async def test_a_password_is_compared_once_for_all_requests_at_the_same_time(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    compare = bcrypt.checkpw

    def count(password: bytes, hashed: bytes) -> bool:
        seen.append(hashed)
        return compare(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", count)
    file = Htpasswd(users)
    assert all(await asyncio.gather(*(file.check("alice", WORD) for _ in range(100))))
    assert await file.check("alice", WORD)
    assert len(seen) == 1
    assert WORD not in repr(vars(file))
    await file.close()


async def test_a_wrong_login_takes_as_long_whatever_it_names(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in rounds of bcrypt: a cost has twice as many rounds as the cost before it."""
    rounds = 0
    compare, make = bcrypt.checkpw, bcrypt.hashpw

    def counted_compare(password: bytes, hashed: bytes) -> bool:
        nonlocal rounds
        rounds += 2 ** int(hashed[4:6])
        return compare(password, hashed)

    def counted_make(password: bytes, salt: bytes) -> bytes:
        nonlocal rounds
        rounds += 2 ** int(salt[4:6])
        return make(password, salt)

    slow = bcrypt.hashpw(b"other", bcrypt.gensalt(7)).decode()
    add(users, "slow", slow)
    file = Htpasswd(users)
    monkeypatch.setattr(bcrypt, "checkpw", counted_compare)
    monkeypatch.setattr(bcrypt, "hashpw", counted_make)
    for name in ("alice", "slow", "nobody"):
        rounds = 0
        assert not await file.check(name, "guess")
        assert rounds == 2**7
    await file.close()


async def test_a_share_may_be_a_clients_by_name(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.limit = 100
    async with run(clients=clients(), shares={"ci": 1}, upstreams={
        "docker.io": {"url": hub.url, "pull_limit": 100}
    }) as mirror:  # fmt: skip
        assert (await ask(mirror, f"Bearer {TOKEN}")).status == 200
        hub.add(other := make_image("another", [1000]), REPOSITORY, "next")
        path = f"/v2/{REPOSITORY}/manifests/next"
        got = await mirror.ask(path, Authorization=f"Bearer {TOKEN}")
        assert got.status == 429
        assert b"ci" in got.body
        got = await mirror.ask(path, Authorization=f"Bearer {OTHER}")
        assert got.body == other.manifest


@pytest.mark.parametrize("text", ["10.0.0.1", "::1", "fe80::1", "", "-a", "a b", "a:b", "1a", "ä"])
def test_no_client_can_be_named_like_an_address(text: str) -> None:
    assert not is_client_name(text)


async def test_no_secret_of_a_client_is_ever_told(
    run: Run, image: Image, users: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    async with run(htpasswd=users, clients=clients()) as mirror:
        logins = (f"Bearer {TOKEN}", basic("alice", WORD), basic("alice", TOKEN + "x"))
        told += [(await ask(mirror, login)).body.decode() for login in logins]
        told.append((await mirror.ask("/metrics")).body.decode())
    told += [caplog.text, *capsys.readouterr(), repr(ConfiguredClient(TOKEN, Patterns(["**"])))]
    plain = (TOKEN, OTHER, WORD)
    packed = [login.removeprefix("Basic ") for login in logins if login.startswith("Basic ")]
    packed += [base64.b64encode(each.encode()).decode().rstrip("=") for each in plain]
    for secret in (*plain, *packed, "$2b$"):
        assert not any(secret in each for each in told)
