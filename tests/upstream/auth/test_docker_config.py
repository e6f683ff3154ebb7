"""A config.json gives the account that docker would find in it, and keeps its secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from docker import auth as oracle
from yarl import URL

from mirror.oci.errors import Denied
from mirror.settings import ConfigurationError
from mirror.upstream.auth.challenge import parse as parse_challenges
from mirror.upstream.auth.credential_manager import CredentialManager, CredentialsRefused
from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable
from mirror.upstream.auth.docker_config import DockerConfigFile, parse
from mirror.upstream.auth.factory import LoginSettings, origin
from mirror.upstream.auth.login import Authorization, Login, LoginPolicy, LoginRequest
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.transport import Transport
from tests.standin import Hub, Image, make_image
from tests.standin.flavours import OAuth, Quay
from tests.support.accounts import INDEX, WORD, basic, found, put, upstream
from tests.support.clock import Clock
from tests.support.mirror import Run

REPOSITORY = "library/nginx"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a config.json."""
    return tmp_path / "config.json"


async def username(credentials: Credentials) -> str:
    """Accept any account, and return its name."""
    return credentials.username


DOCUMENTS: list[dict[str, Any]] = [
    {"auths": {INDEX: basic("hub"), "ghcr.io": basic("octocat")}},
    {"auths": {"docker.io": basic("hub")}},
    {"auths": {"index.docker.io": basic("hub")}},
    {"auths": {"https://ghcr.io": basic("octocat"), "http://127.0.0.1:5000/v1/": basic("own")}},
    {"auths": {"https://quay.io/v2/": basic("url"), "quay.io": basic("plain")}},
    {"auths": {"127.0.0.1:5000": basic("robot$name", "with:colon"), "127.0.0.1": basic("other")}},
    {"auths": {"ghcr.io": {"identitytoken": WORD}, INDEX: {}}},
    {"auths": {"ghcr.io": {**basic("<token>"), "identitytoken": WORD}}},
    {"auths": {"ghcr.io": {**basic("ü", "pässword"), "email": "a@example.org"}}},
    {"auths": {}, "HttpHeaders": {"a": "b"}},
    {"auths": {"example.org": basic("stranger")}},
    {},
]


@pytest.mark.parametrize("registry", ["docker.io", "ghcr.io", "quay.io", "127.0.0.1:5000"])
@pytest.mark.parametrize("document", DOCUMENTS)
async def test_it_finds_what_docker_py_finds(
    config: Path, document: dict[str, Any], registry: str
) -> None:
    theirs = oracle.load_config(config_dict=json.loads(json.dumps(document)))
    entry = oracle.resolve_authconfig(theirs, registry) or {}
    ours = await found(config, document, registry)
    if "IdentityToken" in entry:
        assert (ours.kind, ours.password) == ("refresh", entry["IdentityToken"])
    else:
        assert (ours.username, ours.password) == (
            entry.get("username", ""),
            entry.get("password", ""),
        )


async def test_podmans_keys_with_a_path_are_for_repositories_below(config: Path) -> None:
    """The longest key that fits is used, as containers-auth.json(5) says."""
    document = {
        "auths": {name: basic(name) for name in ("quay.io", "quay.io/org", "quay.io/org/a")}
    }
    for repository, key in {
        "other/a": "quay.io",
        "org/b": "quay.io/org",
        "organism/b": "quay.io",
        "org/a": "quay.io/org/a",
        "org/a/deep": "quay.io/org/a",
    }.items():
        ours = await found(config, document, "quay.io", repository=repository)
        assert ours.username == key


async def test_a_path_that_gets_an_account_while_it_is_asked_for_is_answered(
    config: Path,
) -> None:
    put(config, {"auths": {"quay.io": basic("all", "old")}})
    account = CredentialManager("quay.io", DockerConfigFile(config, ("quay.io",)))

    async def attempt(credentials: Credentials) -> str:
        put(config, {"auths": {"quay.io": basic("all"), "quay.io/org": basic("org")}})
        if credentials.password == "old":
            raise CredentialsRefused("no")
        return credentials.username

    assert await account.use("org/a", attempt) == "all"
    assert await account.use("org/a", attempt) == "org"


async def test_a_path_that_lost_its_account_has_the_registrys_at_once(config: Path) -> None:
    clock = Clock()
    put(config, {"auths": {"quay.io": basic("all"), "quay.io/org": basic("org")}})
    account = CredentialManager("quay.io", DockerConfigFile(config, ("quay.io",)), clock)
    assert await account.use("org/a", username) == "org"
    put(config, {"auths": {"quay.io": basic("all")}})
    clock.now = 300
    assert await account.use("org/a", username) == "all"


async def test_it_is_read_again_every_five_minutes(config: Path) -> None:
    """A new login is used before the old one is refused."""
    clock = Clock()
    put(config, {"auths": {"quay.io": basic("old")}})
    account = CredentialManager("quay.io", DockerConfigFile(config, ("quay.io",)), clock)
    assert await account.use("org/a", username) == "old"
    put(config, {"auths": {"quay.io": basic("new")}})
    clock.now = 200
    assert await account.use("org/a", username) == "old"
    clock.now = 300
    assert await account.use("org/a", username) == "new"


async def test_the_address_is_looked_for_before_the_name(config: Path) -> None:
    document = {"auths": {"docker.io": basic("name"), "127.0.0.1:5000": basic("address")}}
    assert (await found(config, document, "127.0.0.1:5000", "docker.io")).username == "address"
    assert (await found(config, document, "127.0.0.1:5001", "docker.io")).username == "name"


async def test_an_address_of_ipv6_is_looked_for_as_docker_writes_it(config: Path) -> None:
    """The address has brackets, and the port if the upstream's url has one."""
    put(config, {"auths": {"[::1]:5000": basic("port"), "[::1]": basic("none")}})
    for url, user in (("http://[::1]:5000", "port"), ("https://[::1]", "none")):
        configured = LoginSettings(docker_config=config)
        account = origin("docker.io", URL(url), configured).credential_manager
        assert await account.use("a/b", username) == user


async def test_an_entry_that_is_null_is_none(config: Path) -> None:
    """Go reads null in this way, and the programs that write this file are in Go."""
    document = {
        "auths": {"a.example": None, "b.example": basic("robot")},
        "credsStore": None,
        "credHelpers": {"a.example": None},
    }
    assert not await found(config, document, "a.example")
    assert (await found(config, document, "b.example")).username == "robot"


async def test_plain_fields_and_a_registrys_own_token_are_understood(config: Path) -> None:
    document = {
        "auths": {
            "a.example": {"username": "robot", "password": WORD},
            "b.example": {"registrytoken": WORD},
            "c.example": {"auth": base64.b64encode(b"robot:word\0\0").decode()},
        }
    }
    assert await found(config, document, "a.example") == Credentials("robot", WORD)
    assert (await found(config, document, "b.example")).kind == "registry"
    assert (await found(config, document, "c.example")).password == "word"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"auths": {{"a": "{WORD}"}}}}',
        f'{{"auths": {{"a": {{"auth": "{WORD}"}}}}}}',
        f'{{"auths": ["{WORD}"]}}',
        f'["{WORD}"]',
        f'{{"{WORD}',
        f'{{"credsStore": "../{WORD}"}}',
        f'{{"credHelpers": {{"a": "{WORD} --all"}}}}',
        f'{{"credHelpers": {{"a": ["{WORD}"]}}}}',
    ],
)
def test_what_cannot_be_used_is_refused_without_repeating_it(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(ValueError, match=r"docker_config .*config.json (is|has|names)") as caught:
        DockerConfigFile(config, ("a",))
    assert WORD not in str(caught.value)


def written(user: str, password: str = WORD) -> str:
    """Return the text that `docker login` writes."""
    return basic(user, password)["auth"]


ODD = "ro:??????>>>>>>"  # its base64 has both characters that differ in the alphabet of URLs
AUTHS = {
    "as docker writes it": written("robot"),
    "without padding": written("robot").rstrip("="),
    "broken into lines": f"{written('robot')[:7]}\n{written('robot')[7:]}",
    "with Windows' line ends": f"{written('robot')[:7]}\r\n{written('robot')[7:]}\r\n",
    "with spaces": f" {written('robot')[:5]} {written('robot')[5:]}\t",
    "padded by Go": base64.b64encode(f"robot:{WORD}\0\0".encode()).decode(),
    "padded too much": written("robot") + "==",
}


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
async def test_an_auth_is_read_however_it_is_written(config: Path, auth: str) -> None:
    """Docker-credential-desktop writes these forms, or kubelet and Go accept them."""
    got = await found(config, {"auths": {"a.example": {"auth": auth}}}, "a.example")
    assert got == Credentials("robot", WORD)


@pytest.mark.parametrize("padded", [True, False])
async def test_an_auth_in_the_alphabet_of_urls_is_read(config: Path, padded: bool) -> None:
    auth = base64.urlsafe_b64encode(ODD.encode()).decode()
    assert {"-", "_"} <= set(auth)
    document = {"auths": {"a.example": {"auth": auth if padded else auth.rstrip("=")}}}
    got = await found(config, document, "a.example")
    assert f"{got.username}:{got.password}" == ODD


@pytest.mark.parametrize(
    "auth", ["", " ", "=", None, 5, base64.b64encode(b"robot").decode(), "Og==", "cm9ib3Q6"]
)
async def test_an_auth_without_a_user_and_a_password_is_none(config: Path, auth: object) -> None:
    """Docker and podman go on without an account then; other fields may have one."""
    document: dict[str, Any] = {"auths": {"a.example": {"auth": auth}}}
    assert not await found(config, document, "a.example")
    document["auths"]["a.example"] |= {"username": "robot", "password": WORD}
    assert await found(config, document, "a.example") == Credentials("robot", WORD)


BROKEN: list[dict[str, Any]] = [
    {"auths": {"b.example": WORD}},
    {"auths": {"b.example": {"auth": WORD}}},
    {"auths": {"b.example": {"auth": "%%%"}}},
    {"auths": {"b.example": {"auth": base64.b64encode(b"\xff\xfe:word").decode()}}},
    {"auths": {"b.example/org": {"auth": WORD}}},
    {"credHelpers": {"b.example": f"{WORD} --all"}},
    {"credHelpers": {"b.example": [WORD]}},
    {"credsStore": f"../{WORD}"},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
async def test_an_unreadable_entry_of_another_registry_is_ignored_and_named_once(
    config: Path, broken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    auths = {"a.example": basic("robot"), **broken.get("auths", {})}
    put(config, {**broken, "auths": auths})
    source = DockerConfigFile(config, ("a.example",))
    for _ in range(2):
        assert (await source.read("")).credentials == Credentials("robot", WORD)
    [record] = caplog.records
    assert "credsStore" in record.message or "'b.example" in record.message
    assert "ignored" in record.message
    assert WORD not in caplog.text


async def test_an_entry_that_breaks_at_run_time_is_logged_and_the_former_used(
    config: Path,
) -> None:
    clock = Clock()
    put(config, {"auths": {"quay.io": basic("robot")}})
    account = CredentialManager("quay.io", DockerConfigFile(config, ("quay.io",)), clock)
    assert await account.use("org/a", username) == "robot"
    put(config, {"auths": {"quay.io": {"auth": "%%%"}}})
    clock.now = 250  # the account is good for five minutes, and renewed before
    assert await account.use("org/a", username) == "robot"
    clock.now = 301
    with pytest.raises(
        CredentialsUnavailable, match=r"has auths 'quay\.io', which has an auth that"
    ):
        await account.use("org/a", username)


async def test_an_entry_that_another_one_stands_in_for_is_no_fault(config: Path) -> None:
    document = {"auths": {"https://a.example/v1/": {"auth": "%%%"}, "a.example": basic("robot")}}
    assert (await found(config, document, "a.example")).username == "robot"


async def test_fields_that_are_not_about_accounts_are_passed_over(config: Path) -> None:
    document = {
        "auths": {"a.example": {**basic("robot"), "email": None, "unknown": [1]}},
        "HttpHeaders": {"User-Agent": "Docker-Client/27"},
        "proxies": {"default": {"httpProxy": "http://proxy.example:3128"}},
        "credHelpers": {"b.example": "nowhere", "c.example": "ecr-login"},
        "currentContext": "desktop-linux",
        "plugins": 5,
        "psFormat": None,
    }
    assert (await found(config, document, "a.example")).username == "robot"


async def test_a_dockercfg_is_read_as_kubernetes_has_it(config: Path) -> None:
    """Secrets of the type `kubernetes.io/dockercfg` have this format."""
    document = {INDEX: basic("hub"), "a.example": {**basic("robot"), "email": "a@example.org"}}
    assert (await found(config, document, "a.example")).username == "robot"
    assert (await found(config, document, "docker.io")).username == "hub"


async def test_a_mark_of_byte_order_is_no_text(config: Path) -> None:
    """Editors of Windows put the mark there."""
    put(config, {"auths": {"a.example": basic("robot")}})
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())  # noqa: ASYNC240
    source = DockerConfigFile(config, ("a.example",))
    assert (await source.read("")).credentials.username == "robot"


@pytest.mark.parametrize("names", [{"credsStore": "nowhere"}, {"credHelpers": {"a.example": "x"}}])
async def test_an_account_in_the_file_is_used_where_its_helper_is_not_there(
    config: Path, names: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A config.json of Docker Desktop that was copied to a server is such a file."""
    document = {"auths": {"a.example": basic("robot")}, **names}
    assert (await found(config, document, "a.example")).username == "robot"
    assert "cannot be run" in caplog.text


def test_a_config_shows_no_password() -> None:
    assert WORD not in repr(parse(json.dumps({"auths": {"a.example": basic("robot")}})))


# Through a mirror


async def test_the_secret_of_a_kubernetes_pod_is_read_as_it_is_mounted(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    """The layout is of Kubernetes' documentation, "Pull an Image from a Private Registry"."""
    folder = tmp_path / "..2026_01_01"
    folder.mkdir()
    login = {"username": "robot", "password": WORD, "email": "a@example.org", **basic("robot")}
    host = hub.url.removeprefix("http://")
    put(folder / ".dockerconfigjson", {"auths": {host: login}})
    secret = tmp_path / ".dockerconfigjson"
    secret.symlink_to(folder / ".dockerconfigjson")
    hub.terms.users = {"robot": WORD}
    hub.make_private(REPOSITORY, "robot")
    async with run(upstreams=upstream(hub, docker_config=str(secret))) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)


@pytest.mark.parametrize("document", [None, [], {"auths": 3}])
async def test_a_config_that_cannot_be_used_stops_the_start(
    hub: Hub, run: Run, config: Path, document: object
) -> None:
    if document is not None:
        put(config, document)
    account = upstream(hub, docker_config=str(config))
    with pytest.raises(ConfigurationError, match=rf"docker\.io: docker_config {config}"):
        async with run(upstreams=account):
            pass


async def test_one_bad_entry_of_another_registry_stops_nothing(
    hub: Hub, run: Run, image: Image, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.terms.users = {"robot": WORD}
    hub.make_private(REPOSITORY, "robot")
    auth = basic("robot")["auth"].rstrip("=")
    host = hub.url.removeprefix("http://")
    put(config, {"auths": {host: {"auth": auth}, "ghcr.io": {"auth": "s3cret"}}})
    async with run(upstreams=upstream(hub, docker_config=str(config))) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert caplog.text.count("has auths 'ghcr.io', which has an auth that is not base64") == 1
    assert "s3cret" not in caplog.text


async def test_a_bad_entry_of_this_upstream_is_called_that_at_the_start(
    hub: Hub, run: Run, config: Path
) -> None:
    put(config, {"auths": {INDEX: {"auth": "s3cret"}}})
    words = (
        rf"docker\.io: docker_config {config} has auths '{INDEX}', which has an auth that is not"
    )
    with pytest.raises(ConfigurationError, match=words) as caught:
        async with run(upstreams=upstream(hub, docker_config=str(config))):
            pass
    assert "s3cret" not in str(caught.value)


async def test_an_identity_token_is_posted_for_access_tokens(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    hub.make_private(REPOSITORY, "octocat")
    put(config, {"auths": {"docker.io": {"identitytoken": WORD}}})
    account = upstream(hub, docker_config=str(config))
    async with OAuth(hub, {"octocat": WORD}) as server:
        async with run(upstreams=account) as mirror:
            await mirror.pull(REPOSITORY, "latest", image)
        [asked] = server.asked
        assert asked.method == "POST"
        assert asked.form["scope"] == f"repository:{REPOSITORY}:pull"
    assert all(WORD not in str(seen) for seen in hub.requests)


async def test_a_refused_identity_token_is_called_that_and_rests(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    put(config, {"auths": {"docker.io": {"identitytoken": WORD}}})
    account = upstream(hub, docker_config=str(config))
    async with OAuth(hub) as server:
        async with run(upstreams=account) as mirror:
            for name in ("latest", "other"):
                got = await mirror.manifest(REPOSITORY, name)
                assert (got.status, b"refuses the login" in got.body) == (403, True)
        assert server.asks("POST") == 2


async def test_a_registrys_own_token_is_used_as_it_is(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    token = str(hub.tokens.issue("octocat", [REPOSITORY])["token"])
    hub.make_private(REPOSITORY, "octocat")
    put(config, {"auths": {"docker.io": {"registrytoken": token}}})
    account = upstream(hub, docker_config=str(config))
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.count(kind="token") == 0


async def test_a_registrys_own_token_that_is_refused_is_looked_for_again(
    hub: Hub, config: Path
) -> None:
    clock, challenges = Clock(), [f'Bearer realm="{hub.realm}"']
    put(config, {"auths": {"docker.io": {"registrytoken": "old"}}})
    account = CredentialManager("docker.io", DockerConfigFile(config, ("docker.io",)), clock)
    async with Transport(URL(hub.url)) as wire:
        tokens = Tokens(wire, lambda _: None)
        login = Login("docker.io", URL(hub.url), account, LoginPolicy(), tokens)
        [wanted] = parse_challenges(challenges)
        grant = await login.answer(LoginRequest(wanted, REPOSITORY, ""))
        assert grant == Authorization("Bearer old", Credentials("<token>", "old", "registry"))
        clock.now = 6
        with pytest.raises(Denied, match="refuses the token it gave, or gives it no access"):
            await login.answer(LoginRequest(wanted, REPOSITORY, "", grant))
        put(config, {"auths": {"docker.io": {"registrytoken": "new"}}})
        clock.now = 12
        better = await login.answer(LoginRequest(wanted, REPOSITORY, "", grant))
    assert better == Authorization("Bearer new", Credentials("<token>", "new", "registry"))


async def test_a_registrys_own_token_may_see_one_thing_and_not_another(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    hub.add(image, "library/other", "latest")
    for repository in (REPOSITORY, "library/other"):
        hub.make_private(repository, "octocat")
    token = str(hub.tokens.issue("octocat", [REPOSITORY])["token"])
    put(config, {"auths": {"docker.io": {"registrytoken": token}}})
    async with run(upstreams=upstream(hub, docker_config=str(config))) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        got = await mirror.manifest("library/other", "latest")
        assert (got.status, b"or gives it no access to library/other" in got.body) == (403, True)
        await mirror.pull(REPOSITORY, "latest", image)


async def test_each_repository_is_pulled_with_the_account_of_its_path(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    host = hub.url.removeprefix("http://")
    users = {"org+robot": "a", "team+robot": "b"}
    accounts = {f"{host}/{user.split('+')[0]}": basic(user, word) for user, word in users.items()}
    put(config, {"auths": accounts})
    for user in users:
        hub.add(image, f"{user.split('+')[0]}/app", "latest")
        hub.make_private(f"{user.split('+')[0]}/app", user)
    account = upstream(hub, docker_config=str(config))
    async with Quay(hub, users), run(upstreams=account) as mirror:
        for name in ("org/app", "team/app"):
            await mirror.pull(name, "latest", image)


async def test_a_new_login_in_the_file_is_found_when_the_old_one_fails(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    hub.terms.users = {"robot": "old"}
    put(config, {"auths": {INDEX: basic("robot", "old")}})
    account = upstream(hub, docker_config=str(config))
    async with run(upstreams=account) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        put(config, {"auths": {INDEX: basic("robot", "new")}})
        hub.terms.users = {"robot": "new"}
        hub.tokens.revoke()
        await mirror.pull(REPOSITORY, "latest", image)


async def test_pulls_are_counted_for_the_account_that_the_budget_looks_at(
    hub: Hub, run: Run, image: Image, config: Path
) -> None:
    hub.terms.users = {"robot": WORD}
    hub.terms.account_limit = 1
    hub.tag(REPOSITORY, "other", make_image(2, [1000]))
    put(config, {"auths": {"docker.io": basic("robot")}})
    account = upstream(hub, docker_config=str(config))
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        assert (await mirror.manifest(REPOSITORY, "other")).status == 429
    assert hub.count(kind="manifest", method="GET", status=429) == 0
