"""Remembered facts of a login are guesses: a wrong one costs a question, but no pull."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from yarl import URL

from mirror.oci.errors import Denied
from mirror.upstream.auth.challenge import Challenge
from mirror.upstream.auth.credential_manager import CredentialManager
from mirror.upstream.auth.credentials import PasswordFile
from mirror.upstream.auth.login import Login, LoginPolicy, LoginRequest
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.transport import Transport
from tests.standin import Fault, Hub, Image
from tests.standin.faults import HTML, with_fields
from tests.standin.flavours import Asked, Flavour, Harbor, Refused
from tests.standin.journal import Kind
from tests.support.accounts import WORD, upstream
from tests.support.clock import Clock
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"
OTHER = "library/other"
OWN = f"repository:{REPOSITORY}:pull"

USELESS: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "no realm": 'Bearer service="x",error="invalid_token"',
    "a realm that is no URL": 'Bearer realm="token",service="x"',
    "another scheme": 'Negotiate, Digest realm="x"',
    "Basic": 'Basic realm="Restricted"',
    "garbage": '=,="',
}


def challenge(hub: Hub, scope: str | None) -> dict[str, str | None]:
    """Return the hub's challenge with another scope."""
    named = "" if scope is None else f',scope="{scope}"'
    return {"WWW-Authenticate": f'Bearer realm="{hub.realm}",service="registry.docker.io"{named}'}


async def get(mirror: Mirror, repository: str = REPOSITORY) -> int:
    """Return the status of a manifest by tag."""
    return (await mirror.manifest(repository, "latest")).status


# A token that ended early


@pytest.mark.parametrize("said", USELESS.values(), ids=USELESS)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_ended_early_is_replaced_whatever_the_refusal_says(
    hub: Hub, run: Run, image: Image, said: str | None, status: int
) -> None:
    hub.add(image, OTHER, "latest")
    async with run(tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        hub.tokens.revoke()
        refusal = Fault(at_door=True, status=status, headers={"WWW-Authenticate": said}, times=None)
        hub.faults.add(refusal)
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache.endswith("revalidated")
        assert hub.count(kind="token") == 2
        hub.faults.clear()
        assert await get(mirror, OTHER) == 200


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
async def test_every_kind_of_question_gets_a_fresh_token(
    hub: Hub, run: Run, image: Image, kind: Kind, status: int
) -> None:
    async with run() as mirror:
        assert await get(mirror) == 200
        hub.tokens.revoke()
        nothing = {"WWW-Authenticate": None}
        hub.faults.add(Fault(kind=kind, at_door=True, status=status, headers=nothing, times=None))
        match kind:
            case "blob":
                [blob, *_] = image.blobs
                assert (await mirror.blob(REPOSITORY, blob.digest)).body == blob.read()
            case "tags":
                assert (await mirror.ask(f"/v2/{REPOSITORY}/tags/list")).status == 200
            case _:
                hub.tag(REPOSITORY, "new", image)
                assert (await mirror.manifest(REPOSITORY, "new", "HEAD")).status == 200
    assert hub.count(kind="token") == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_lasting_denial_costs_some_tokens_once_and_no_storm(
    hub: Hub, run: Run, image: Image, status: int
) -> None:
    async with run(tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        hub.make_private(REPOSITORY, "somebody")
        hub.tokens.revoke()
        hub.faults.add(Fault(at_door=True, status=status, times=None))
        tags = [f"tag-{number}" for number in range(20)]
        got = await asyncio.gather(*(mirror.manifest(REPOSITORY, tag) for tag in tags))
        assert {each.status for each in got} == {403}
        before = hub.count(kind="token")
        assert before <= 45  # of 20 questions, each repeated because it contradicts a grant
        assert (await mirror.manifest(REPOSITORY, "one")).status == 403
        assert hub.count(kind="token") <= before + 3  # HEAD, GET, and a denial's confirmation


async def test_many_that_meet_a_token_that_ended_share_the_next_one(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    assert await get(mirror) == 200
    hub.tokens.revoke()
    hub.faults.add(Fault(at_door=True, headers={"WWW-Authenticate": None}, times=None))
    tags = [f"tag-{number}" for number in range(20)]
    for tag in tags:
        hub.tag(REPOSITORY, tag, image)
    got = await asyncio.gather(*(mirror.manifest(REPOSITORY, tag) for tag in tags))
    assert {each.status for each in got} == {200}
    assert hub.count(kind="token") == 2


async def test_a_token_kept_before_its_challenge_was_forgotten_is_replaced_too(
    hub: Hub, run: Run, image: Image
) -> None:
    """A token that another question fetched meanwhile is no fresher."""
    async with run(tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        hub.tokens.revoke()
        async with Harbor(hub):
            assert await get(mirror) == 200
        hub.terms.realm, hub.terms.service = None, "registry.docker.io"
        hub.tokens.revoke()
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache.endswith("revalidated")


async def test_the_challenge_is_asked_for_where_clients_begin(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    """As docker and skopeo do, which take the challenge from /v2/ alone."""
    nothing = {"WWW-Authenticate": None}
    kinds: tuple[Kind, ...] = ("manifest", "blob", "tags")
    for kind in kinds:
        hub.faults.add(Fault(kind=kind, at_door=True, headers=nothing, times=None))
    await mirror.pull(REPOSITORY, "latest", image)
    assert hub.count(kind="ping") == 1


async def test_a_registry_that_forbids_what_shows_no_token_is_pulled_from(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault(kind="manifest", at_door=True, status=403, times=None))
    await mirror.pull(REPOSITORY, "latest", image)


# The scope of a challenge is a hint


@pytest.mark.parametrize(
    "scope",
    [
        None,
        "",
        " ",
        "repository:library/other:pull",
        f"repository:{REPOSITORY}:push,pull",
        f"repository:{REPOSITORY}:pull,push,delete",
        "registry:catalog:*",
        "aws",
        f"{OWN} repository:library/other:pull",
    ],
)
async def test_the_repositorys_own_scope_is_asked_for_whatever_a_challenge_names(
    hub: Hub, mirror: Mirror, image: Image, scope: str | None
) -> None:
    hub.faults.add(Fault(at_door=True, headers=challenge(hub, scope), times=None))
    await mirror.pull(REPOSITORY, "latest", image)
    [token] = hub.journal.matching(kind="token")
    assert token.repository == REPOSITORY
    assert "push" not in token.query
    assert hub.count(status=401) == 1


class Particular(Flavour):
    """A token server with tokens that are good only for the scope that the registry names."""

    wants = "registry:catalog:*"
    alone = False

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET; a token of another scope opens no repository, or is refused."""
        scopes = asked.query.get("scope", "").split()
        if self.alone and scopes != [self.wants]:
            raise Refused(403, "DENIED")
        good = self.wants in scopes
        names = {"service": self.service, "scope": OWN if good else ""}
        return {"token": self.token(None, names)}


@pytest.mark.parametrize("alone", [False, True], ids=["beside", "alone"])
@pytest.mark.parametrize("wants", ["registry:catalog:*", "repository:ns/library/nginx:pull", "aws"])
async def test_a_registry_gets_the_scope_that_it_names_and_is_remembered(
    hub: Hub, mirror: Mirror, image: Image, wants: str, alone: bool
) -> None:
    """As with containerd and skopeo, the named scope is asked for beside the repository's."""
    async with Particular(hub) as server:
        server.wants, server.alone = wants, alone
        named = f'Bearer realm="{hub.realm}",service="{server.service}",scope="{wants}"'
        hub.faults.add(Fault(at_door=True, headers={"WWW-Authenticate": named}, times=None))
        await mirror.pull(REPOSITORY, "latest", image)
        assert len(server.asked) == 2
        hub.tokens.revoke()
        hub.tag(REPOSITORY, "new", image)
        assert (await mirror.manifest(REPOSITORY, "new")).status == 200
        assert len(server.asked) == 3


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
async def test_a_token_server_that_moves_is_followed_at_once(
    hub: Hub, run: Run, image: Image, down: bool
) -> None:
    hub.add(image, OTHER, "latest")
    async with run(tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        if down:
            await hub.down("token")
        async with Harbor(hub) as server:
            assert await get(mirror, OTHER) == 200
            hub.tokens.revoke()
            got = await mirror.manifest(REPOSITORY, "latest")
            assert got.cache.endswith("revalidated")
            assert server.asks("GET") >= 2


async def test_a_realm_with_a_query_keeps_it(hub: Hub, mirror: Mirror, image: Image) -> None:
    hub.terms.realm = f"{hub.realm}?tenant=a%2Fb"
    await mirror.pull(REPOSITORY, "latest", image)
    [token] = hub.journal.matching(kind="token")
    assert parse_qs(token.query)["tenant"] == ["a/b"]


@pytest.mark.parametrize("out", ["refuses", "fails", "down"])
async def test_what_needs_no_token_is_pulled_although_none_is_to_be_had(
    hub: Hub, run: Run, image: Image, out: str
) -> None:
    """The first question goes without a token, as containerd's, even if others need one."""
    async with run() as mirror:
        assert await get(mirror) == 200
        hub.add(image, OTHER, "latest")
        hub.terms.auth = "none"
        if out == "down":
            await hub.down("token")
        hub.faults.add(Fault(kind="token", status=401 if out == "refuses" else 503, times=None))
        assert await get(mirror, OTHER) == 200


async def test_a_missing_tag_is_not_told_by_a_registry_that_was_shown_no_token(
    hub: Hub, run: Run, image: Image
) -> None:
    """Such a registry may hide private tags by a 404."""
    async with run() as mirror:
        assert await get(mirror) == 200
        hub.terms.auth = "none"
        hub.faults.add(Fault(kind="token", status=503, times=None))
        assert (await mirror.manifest(OTHER, "latest")).status == 503


async def test_a_content_networks_challenge_teaches_nothing(
    hub: Hub, run: Run, image: Image
) -> None:
    async with Harbor(hub) as foreign:
        hub.terms.realm, hub.terms.service = None, "registry.docker.io"
        async with run() as mirror:
            said = f'Bearer realm="{foreign.url}/token",service="x"'
            headers = {"WWW-Authenticate": said}
            hub.faults.add(Fault(kind="blob", port="cdn", status=401, headers=headers, times=1))
            await mirror.pull(REPOSITORY, "latest", image)
        assert foreign.asked == []
    assert hub.count(kind="token") == 1


# A token server that fails


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="token", status=500),
        Fault(kind="token", status=503, times=2),
        Fault(kind="token", drop=True),
        Fault.page("token"),
        Fault.page("token", status=502),
        Fault.page("token", status=403),
    ],
)
async def test_a_token_server_that_fails_once_is_asked_again_within_the_question(
    hub: Hub, mirror: Mirror, image: Image, fault: Fault
) -> None:
    hub.faults.add(fault)
    await mirror.pull(REPOSITORY, "latest", image)


async def test_a_rate_limit_of_a_token_server_is_kept_as_long_as_it_says(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.faults.add(Fault.abuse("token", times=None, retry_after=60))
    async with run() as mirror:
        for _ in range(3):
            got = await mirror.manifest(REPOSITORY, "latest")
            assert (got.status, 0 < int(got.headers["Retry-After"]) <= 60) == (429, True)
    assert hub.count(kind="token") == 1


class Loose(Flavour):
    """A token server that answers with a good token under any status and type."""

    def __init__(self, hub: Hub, status: int = 200, kind: str = "application/json") -> None:
        super().__init__(hub)
        self.status, self.kind = status, kind

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Answer a GET."""
        return {"token": self.token(None, asked.query)}

    def sent(self, document: dict[str, Any]) -> Any:  # noqa: ANN401 - aiohttp's response
        """Send the token under the status and type."""
        response = super().sent(document)
        response.set_status(self.status)
        response.headers["Content-Type"] = self.kind
        return response


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/html; charset=utf-8"])
async def test_the_body_decides_whether_an_answer_is_a_token(
    hub: Hub, mirror: Mirror, image: Image, status: int, kind: str
) -> None:
    async with Loose(hub, status, kind):
        await mirror.pull(REPOSITORY, "latest", image)


ENDS: list[object] = ["300s", "300", "", None, -1, 0, 59.5, 10**400, [], {}, "soon", True, "nan"]
ISSUED: list[object] = ["yesterday", None, 5, "0001-01-01T00:00:00Z"]
NO_TOKENS: list[object] = ["", None, 5, []]
CHANGES: list[dict[str, object]] = [
    *({"expires_in": odd} for odd in ENDS),
    *({"issued_at": odd} for odd in ISSUED),
    *({"token": odd} for odd in NO_TOKENS),
    *({"access_token": odd} for odd in NO_TOKENS),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_a_token_is_taken_whatever_stands_beside_it(
    hub: Hub, mirror: Mirror, image: Image, change: dict[str, object]
) -> None:
    hub.faults.add(Fault(kind="token", body=with_fields(**change), times=None))
    await mirror.pull(REPOSITORY, "latest", image)
    assert hub.count(kind="token") == 1


# A refused login


async def test_one_refusal_of_a_login_by_mistake_costs_no_pull(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.users = {"robot": WORD}
    hub.faults.add(Fault(kind="token", status=401))
    account = upstream(hub, username="robot", password=WORD)
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)


async def test_a_token_that_is_kept_is_used_although_its_account_rests(
    hub: Hub, run: Run, image: Image
) -> None:
    """A token server's refusal of one login says nothing about an earlier token."""
    hub.add(image, OTHER, "latest")
    hub.terms.users = {"robot": WORD}
    account = upstream(hub, username="robot", password=WORD)
    async with run(upstreams=account, tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        hub.faults.add(Fault(kind="token", status=401, times=2))
        assert await get(mirror, OTHER) == 403
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache.endswith("revalidated")
        hub.tag(REPOSITORY, "new", image)
        assert (await mirror.manifest(REPOSITORY, "new")).status == 200


ODD_DOORS = [
    Fault(kind="ping", times=None, body=HTML, headers={"Content-Type": "text/html"}),
    *(Fault.page("ping", times=None, status=status) for status in (403, 404, 405, 500)),
    *(Fault(kind="ping", times=None, status=status) for status in (400, 403, 404, 405, 429)),
]


@pytest.mark.parametrize("fault", ODD_DOORS, ids=lambda fault: f"{fault.status}-{fault.body!r:.9}")
@pytest.mark.parametrize("auth", ["auto", "basic"])
async def test_a_basic_login_is_refused_by_a_401_alone(
    hub: Hub, run: Run, image: Image, fault: Fault, auth: str
) -> None:
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": WORD}
    hub.faults.add(fault)
    account = upstream(hub, auth=auth, username="robot", password=WORD)
    async with run(upstreams=account) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)


async def test_a_basic_login_that_ended_is_read_again_within_the_question(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": "old"}
    word = tmp_path / "word"
    word.write_text("old\n")
    account = upstream(hub, username="robot", password_file=str(word))
    async with run(upstreams=account, tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        word.write_text("new\n")
        hub.terms.users = {"robot": "new"}
        nothing = {"WWW-Authenticate": None}
        hub.faults.add(Fault(kind="manifest", at_door=True, headers=nothing, times=None))
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache.endswith("revalidated")


async def test_a_basic_login_that_loses_an_access_is_read_again(hub: Hub, tmp_path: Path) -> None:
    """ECR answers 403 to a login after its twelve hours."""
    clock, word = Clock(), tmp_path / "word"
    word.write_text("old")
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": "old"}
    account = CredentialManager("docker.io", PasswordFile("robot", word), clock)
    async with Transport(URL(hub.url)) as wire:
        login = Login(
            "docker.io", URL(hub.url), account, LoginPolicy(), Tokens(wire, lambda _: None)
        )
        want = LoginRequest(Challenge("basic"), REPOSITORY, "")
        grant = await login.answer(want)
        clock.now = 6
        with pytest.raises(Denied, match="refuses the login, or gives it no access to"):
            await login.answer(replace(want, refused=grant, forbidden=True))
        word.write_text("new")
        hub.terms.users = {"robot": "new"}
        clock.now = 12
        better = await login.answer(replace(want, refused=grant, forbidden=True))
    assert better.credentials.password == "new"


async def test_one_wrong_challenge_does_not_change_the_way_to_log_in(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.users = {"robot": WORD}
    account = upstream(hub, username="robot", password=WORD)
    async with run(upstreams=account, tag_ttl=0) as mirror:
        assert await get(mirror) == 200
        hub.tokens.revoke()
        said = {"WWW-Authenticate": 'Basic realm="bot protection"'}
        hub.faults.add(Fault(at_door=True, headers=said))
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.cache.endswith("revalidated")
    basic = [seen for seen in hub.requests if seen.headers.get("authorization", "")[:5] == "Basic"]
    assert {seen.port for seen in basic} == {"token"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denial_that_contradicts_a_recent_grant_is_asked_about_again(
    hub: Hub, mirror: Mirror, image: Image, status: int
) -> None:
    layer = image.layers[0]
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest
    hub.faults.add(Fault(kind="blob", port="registry", status=status, times=3))
    assert (await mirror.blob(REPOSITORY, layer.digest)).body == layer.read()


async def test_a_denial_of_content_never_granted_is_not_asked_about_repeatedly(
    hub: Hub, mirror: Mirror
) -> None:
    layer = "sha256:" + "5" * 64
    hub.faults.add(Fault(kind="blob", port="registry", status=403, times=None))
    assert (await mirror.blob(REPOSITORY, layer)).status == 403
    assert hub.count(kind="blob", status=403) <= 2
