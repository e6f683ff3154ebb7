"""Questions to upstream: challenges, tokens, redirects, and answers that must not be believed."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from yarl import URL

from mirror.oci import media
from mirror.upstream.address_policy import follow
from mirror.upstream.auth.challenge import Challenge, choose, parse
from tests.standin import Fault, Hub, Image, make_artifact, make_image, padded, with_fields, without
from tests.support.mirror import Mirror, Run

REPOSITORY = "library/nginx"


@pytest.mark.parametrize(
    ("headers", "challenges"),
    [
        (
            ['Bearer realm="https://a/token?x=1,2",service="s",scope="repository:a/b:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://a/token?x=1,2",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            ['Basic realm="r", BEARER Realm=t , service = "s"'],
            [
                Challenge("basic", {"realm": "r"}),
                Challenge("bearer", {"realm": "t", "service": "s"}),
            ],
        ),
        (
            ['Negotiate, Digest qop="auth, auth-int"', "Basic realm=x"],
            [
                Challenge("negotiate"),
                Challenge("digest", {"qop": "auth, auth-int"}),
                Challenge("basic", {"realm": "x"}),
            ],
        ),
        (
            ["Negotiate YWJjZA==, Basic realm=x"],
            [Challenge("negotiate"), Challenge("basic", {"realm": "x"})],
        ),
        (
            [r'Basic realm="a \"quoted\" \\ name"'],
            [Challenge("basic", {"realm": 'a "quoted" \\ name'})],
        ),
        ([", , Basic realm=x,,"], [Challenge("basic", {"realm": "x"})]),
        (['Basic realm="unfinished'], [Challenge("basic")]),
        (["", "  ", '"', "=", "é"], []),
    ],
)
def test_challenges_are_read_as_the_rfc_has_them(
    headers: list[str], challenges: list[Challenge]
) -> None:
    assert parse(headers) == challenges


def test_bearer_is_preferred_and_what_is_not_allowed_is_passed_over() -> None:
    both = parse(['Basic realm="r", Bearer realm="https://a/t"'])
    assert choose(both, {"basic", "bearer"}) == both[1]
    assert choose(both, {"basic"}) == both[0]
    assert choose(both[:1], {"bearer"}) is None
    assert choose(parse(["Bearer service=x"]), {"bearer"}) is None


async def test_a_token_serves_its_scope_until_it_ends(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    await mirror.pull(REPOSITORY, "latest", image)
    assert hub.count(kind="token") == 1


async def test_the_realm_is_learned_once_for_all_repositories(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    for name in ("library/a", "library/b"):
        hub.add(image, name, "latest")
        await mirror.manifest(name, "latest")
    assert hub.count(kind="manifest", status=401) == 1
    assert hub.count(kind="token") == 2


async def test_a_refused_token_is_replaced_once(hub: Hub, run: Run, image: Image) -> None:
    async with run(tag_ttl=0) as mirror:
        await mirror.manifest(REPOSITORY, "latest")
        hub.tokens.revoke()
        assert (await mirror.manifest(REPOSITORY, "latest")).cache.endswith("revalidated")
        assert hub.count(kind="token") == 2


async def test_every_request_names_the_product(hub: Hub, mirror: Mirror, image: Image) -> None:
    await mirror.pull(REPOSITORY, "latest", image)
    assert {seen.port for seen in hub.requests} == {"registry", "token", "cdn"}
    assert all(seen.headers["user-agent"].startswith("mirror/") for seen in hub.requests)


async def test_every_manifest_type_is_asked_for_those_of_images_first(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    await mirror.ask(f"/v2/{REPOSITORY}/manifests/latest", Accept="text/plain")
    for seen in hub.journal.matching(kind="manifest"):
        types = seen.headers["accept"].split(", ")
        assert set(types[:4]) == media.MANIFESTS | media.INDEXES
        assert {*types} == media.KNOWN | {"*/*"}


async def test_an_account_pulls_with_its_password_which_is_not_told(
    hub: Hub, run: Run, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.terms.users = {"robot": "s3cret-word"}
    account = {
        "url": hub.url,
        "private": "everyone",
        "username": "robot",
        "password": "s3cret-word",
    }
    async with run(upstreams={"docker.io": account}) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        shown = repr(mirror.daemon) + (await mirror.ask("/metrics")).body.decode()
    [token] = hub.journal.matching(kind="token")
    basic = base64.b64encode(b"robot:s3cret-word").decode()
    assert token.headers["authorization"] == f"Basic {basic}"
    for seen in hub.journal.matching(port="cdn"):
        assert "authorization" not in seen.headers
    out = capfd.readouterr()
    assert "s3cret-word" not in shown + out.out + out.err
    assert basic not in shown + out.out + out.err


async def test_a_wrong_password_is_called_that(hub: Hub, run: Run, image: Image) -> None:
    hub.terms.users = {"robot": "right"}
    account = {"url": hub.url, "private": "everyone", "username": "robot", "password": "wrong"}
    async with run(upstreams={"docker.io": account}) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, b"login" in got.body) == (403, True)


async def test_basic_authentication_works_where_that_is_asked_for(
    hub: Hub, run: Run, image: Image
) -> None:
    hub.terms.auth = "basic"
    hub.terms.users = {"robot": "right"}
    account = {"url": hub.url, "private": "everyone", "username": "robot", "password": "right"}
    async with run(upstreams={"docker.io": account}) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)


async def test_an_upstream_without_authentication_is_just_asked(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.terms.auth = "none"
    await mirror.pull(REPOSITORY, "latest", image)
    assert hub.count(kind="token") == 0


async def test_a_clients_credentials_stay_with_the_mirror(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    path = f"/v2/{REPOSITORY}/manifests/latest"
    got = await mirror.ask(path, Authorization="Bearer clients-own", Cookie="clients=own")
    assert got.status == 200
    assert all("clients" not in str(seen.headers) for seen in hub.requests)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="token", status=500, times=None),
        Fault(kind="token", hang=True, times=None),
        Fault(kind="token", body=padded(70_000), times=None),
        Fault(kind="token", body=b"no json", times=None),
        Fault(kind="token", body=without("token", "access_token"), times=None),
        Fault(kind="token", body=with_fields(token=5, access_token=5), times=None),
        Fault.page("token", times=None),
        Fault.page("token", times=None, status=403),
        Fault(kind="manifest", redirect_loop=True, times=None),
        Fault(kind="manifest", status=307, headers={"Location": "ftp://x/"}, times=None),
        Fault(kind="manifest", status=307, times=None),
        Fault.page("manifest", times=None),
        Fault(kind="manifest", status=418, times=None),
    ],
)
async def test_an_upstream_that_misbehaves_is_a_gateway_error(
    hub: Hub, run: Run, image: Image, fault: Fault
) -> None:
    hub.faults.add(fault)
    async with run(answer_timeout=1) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
        assert got.status in (502, 503, 504)
        hub.faults.clear()
        assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_token_without_an_end_or_with_a_lying_one_is_used_all_the_same(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    lies = (without("expires_in"), with_fields(expires_in=-5), with_fields(expires_in=1e30))
    for number, lie in enumerate(lies):
        hub.faults.add(Fault(kind="token", body=lie))
        async with run(data_dir=tmp_path / str(number)) as mirror:
            assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_manifest_over_four_mebibytes_is_refused(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    huge = make_artifact(1, image, annotations={"x": "y" * 5_000_000})
    hub.add(huge, REPOSITORY, "huge")
    got = await mirror.manifest(REPOSITORY, huge.digest)
    assert got.status == 502
    assert (await mirror.manifest(REPOSITORY, "latest")).status == 200


async def test_a_signed_address_is_never_told(
    hub: Hub, mirror: Mirror, image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.faults.add(Fault(kind="blob", headers={"Content-Length": "1\r\nbad header\r\n"}, times=9))
    got = await mirror.blob(REPOSITORY, image.config.digest)
    out = capfd.readouterr()
    assert "verify" not in got.body.decode() + out.err


async def test_a_redirect_within_the_registry_keeps_its_token(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    target = f"{hub.url}/v2/{REPOSITORY}/manifests/{image.digest}"
    hub.faults.add(Fault(kind="manifest", method="HEAD", status=307, headers={"Location": target}))
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_hanging_upstream_is_answered_for_in_time(hub: Hub, run: Run, image: Image) -> None:
    hub.faults.add(Fault(kind="manifest", hang=True, times=None))
    async with run(answer_timeout=0.5) as mirror, asyncio.timeout(3):
        assert (await mirror.manifest(REPOSITORY, "latest")).status == 504


async def test_a_connection_that_breaks_is_tried_again(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault(kind="manifest", drop=True, times=2))
    assert (await mirror.manifest(REPOSITORY, "latest")).body == image.manifest


async def test_a_full_pull_limit_is_told_with_when_to_come_back(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.faults.add(Fault.abuse("manifest", times=2))  # of the HEAD and of the GET
    got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, got.headers["Retry-After"]) == (429, "60")


@pytest.mark.parametrize("prefix", ["dockerhub-cache", "/team/cache/"])
async def test_a_project_may_stand_before_every_name_at_upstream(
    hub: Hub, run: Run, prefix: str
) -> None:
    """Harbor, ECR and Google have such a prefix; clients and the store know the name without it."""
    image = make_image(3, [30_000])
    hub.add(image, f"{prefix.strip('/')}/library/nginx", "latest")
    upstreams = {"docker.io": {"url": hub.url, "repository_prefix": prefix}}
    async with run(upstreams=upstreams) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
        listed = await mirror.ask(f"/v2/{REPOSITORY}/tags/list")
        assert json.loads(listed.body) == {"name": REPOSITORY, "tags": ["latest"]}
    hub.journal.clear()
    async with run(upstreams=upstreams) as mirror:
        await mirror.pull(REPOSITORY, "latest", image)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/a b?x=c d", "https://registry.example/a%20b?x=c%20d"),
        ("https://cdn.example/a%2Fb c", "https://cdn.example/a%2Fb%20c"),
        ("/caf\u00e9", "https://registry.example/caf%C3%A9"),
        ("/a\udce9", "https://registry.example/a%E9"),  # an octet that is not UTF-8
        ("/x?sig=%2B+/==&a=[1]", "https://registry.example/x?sig=%2B+/==&a=[1]"),
        (" /a ", "https://registry.example/a"),
    ],
)
def test_a_location_goes_out_as_it_came_but_for_what_no_request_line_takes(
    location: str, target: str
) -> None:
    assert str(follow(URL("https://registry.example/v2/"), location)) == target
