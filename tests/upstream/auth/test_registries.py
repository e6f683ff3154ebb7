"""Images are pulled from every registry by its way to log in, as that registry implements it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mirror.upstream.auth import token_exchange
from tests.standin import Hub, Image
from tests.standin.flavours import (
    Acr,
    Flavour,
    Ghcr,
    GitLab,
    GoogleRegistry,
    Harbor,
    Nexus,
    Quay,
    jwt,
)
from tests.support.accounts import WORD, upstream
from tests.support.mirror import Run

REPOSITORY = "library/nginx"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def private(hub: Hub, image: Image) -> Image:
    """An image that needs an account."""
    hub.make_private(REPOSITORY, *PULLERS.values())
    return image


PULLERS: dict[type[Flavour], str] = {
    Ghcr: "octocat",
    Quay: "org+robot",
    Harbor: "robot$project+name",
    Nexus: "robot",
    GoogleRegistry: "_json_key",
    Acr: "11111111-2222-3333-4444-555555555555",
}


@pytest.mark.parametrize("kind", PULLERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("auth", ["auto", "bearer"])
async def test_an_account_pulls_as_its_registry_wants_it(
    hub: Hub, run: Run, private: Image, kind: type[Flavour], auth: str
) -> None:
    user = PULLERS[kind]
    async with kind(hub, {user: WORD}) as server:
        account = upstream(hub, auth=auth, username=user, password=WORD)
        async with run(upstreams=account) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        assert server.asks("GET") == 1
        assert server.asked[0].basic == (user, WORD)
    assert hub.count(status=401) == 1


@pytest.mark.parametrize("kind", PULLERS, ids=lambda kind: kind.__name__)
async def test_public_content_is_pulled_anonymously(
    hub: Hub, run: Run, image: Image, kind: type[Flavour]
) -> None:
    async with kind(hub) as server, run() as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        assert all("authorization" not in asked.headers for asked in server.asked)
        assert server.asked


async def test_anonymous_has_no_account_to_be_refused(hub: Hub, run: Run, private: Image) -> None:
    async with Harbor(hub) as server, run(upstreams=upstream(hub, auth="anonymous")) as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 403
        assert all("authorization" not in asked.headers for asked in server.asked)


async def test_basic_is_sent_unasked(hub: Hub, run: Run, private: Image) -> None:
    """Nexus without its bearer realm, and htpasswd, take such logins."""
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": WORD}
    hub.make_private(REPOSITORY, "robot")
    async with run(
        upstreams=upstream(hub, auth="basic", username="robot", password=WORD)
    ) as mirror:
        await mirror.pull(REPOSITORY, "latest", private)
    assert hub.count(status=401) == 0
    assert hub.count(kind="ping") == 1


async def test_with_bearer_the_registry_itself_never_sees_the_password(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": WORD}
    account = upstream(hub, auth="bearer", username="robot", password=WORD)
    async with run(upstreams=account) as mirror:
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 403
    assert all("authorization" not in seen.headers for seen in hub.requests)


async def test_gitlabs_token_server_is_trusted_only_if_it_is_listed(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.make_private(REPOSITORY, "deploy-token")
    keys = {"username": "deploy-token", "password": WORD}
    async with GitLab(hub, {"deploy-token": WORD}, host="127.0.0.2") as server:
        async with run(upstreams=upstream(hub, **keys)) as mirror:
            got = await mirror.manifest(REPOSITORY, "latest")
        assert (got.status, server.asked) == (502, [])
        async with run(upstreams=upstream(hub, **keys, realms=[server.url])) as mirror:
            await mirror.pull(REPOSITORY, "latest", image)
        assert server.asks("GET") == 1


@pytest.mark.parametrize(
    ("answer", "life"),
    [
        ({"token": "x", "expires_in": 1000}, 1000),
        ({"token": "x"}, 60),
        ({"token": "x", "expires_in": "nan"}, 60),
        ({"access_token": "x", "token": "y", "expires_in": 5}, 60),
        ({"token": jwt(iat=5, exp=1005)}, 1000),
        ({"token": jwt(iat=5, exp=1005), "expires_in": 500}, 500),
        ({"token": jwt(iat=5, exp=10**9)}, 3600),
        ({"token": jwt(iat=5, exp="soon")}, 60),
        ({"token": "a.b.c"}, 60),
    ],
)
def test_a_token_is_renewed_before_it_ends_by_whatever_says_when(
    answer: dict[str, object], life: float
) -> None:
    """A JWT has an end in itself; GitLab and Azure name no other."""
    token = token_exchange.read(json.dumps(answer).encode(), "access_token", "token")
    assert token.value == answer.get("access_token", answer["token"])
    assert token.life == pytest.approx(0.8 * life, abs=20)


def test_a_token_that_says_only_when_it_ends_is_renewed_before() -> None:
    answer = {"token": jwt(exp=time.time() + 1000)}
    token = token_exchange.read(json.dumps(answer).encode(), "access_token", "token")
    assert token.life == pytest.approx(800, abs=20)


# Azure


@pytest.mark.parametrize("auth", ["acr", "auto"])
async def test_azures_refresh_token_is_used_as_a_password(
    hub: Hub, run: Run, private: Image, auth: str
) -> None:
    """`az acr login --expose-token` gives this token; outside of `auth = "acr"` it goes by GET."""
    async with Acr(hub) as server:
        token = server.refresh_token("octocat")
        server.users[NOBODY] = token
        hub.make_private(REPOSITORY, "octocat", NOBODY)
        account = upstream(hub, auth=auth, username=NOBODY, password=token)
        async with run(upstreams=account) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        assert [asked.method for asked in server.asked] == ["POST" if auth == "acr" else "GET"]
        assert token not in str(hub.requests)


async def test_an_azure_access_token_is_exchanged_once_for_all_repositories(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    for name in ("library/a", "library/b"):
        hub.add(image, name, "latest")
        hub.make_private(name, "identity")
    async with Acr(hub) as server:
        token = jwt(aud="https://containerregistry.azure.net", exp=time.time() + 3600)
        server.directory["identity"] = token
        (tmp_path / "token").write_text(token)
        account = upstream(hub, auth="acr", username=NOBODY, password_file=str(tmp_path / "token"))
        async with run(upstreams=account) as mirror:
            for name in ("library/a", "library/b"):
                await mirror.pull(name, "latest", image)
        assert server.asks("POST", "/oauth2/exchange") == 1
        assert server.asks("POST") == 2


async def test_a_refresh_token_that_was_revoked_is_no_fault_of_the_account(
    hub: Hub, run: Run, image: Image
) -> None:
    for name in ("library/a", "library/b", "library/c"):
        hub.add(image, name, "latest")
        hub.make_private(name, "identity")
    async with Acr(hub) as server:
        token = jwt(aud="https://containerregistry.azure.net", exp=time.time() + 3600)
        server.directory["identity"] = token
        async with run(
            upstreams=upstream(hub, auth="acr", username=NOBODY, password=token)
        ) as mirror:
            await mirror.pull("library/a", "latest", image)
            server.refresh_tokens.clear()
            await mirror.pull("library/b", "latest", image)
            server.refresh_tokens.clear()
            server.directory.clear()
            got = await mirror.manifest("library/c", "latest")
            assert (got.status, b"refuses the login" in got.body) == (403, True)
        assert server.asks("POST", "/oauth2/exchange") == 4
