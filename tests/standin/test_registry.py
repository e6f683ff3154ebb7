"""The stand-in keeps its promises, because the other tests measure with it."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.standin import Fault, Hub, Image, Terms, make_artifact, make_image
from tests.standin.client import AGENT, Client
from tests.standin.conftest import NGINX, layer_path


async def test_without_a_token_the_registry_says_where_to_get_one(hub: Hub, client: Client) -> None:
    reply = await client.ask("GET", f"{hub.url}/v2/{NGINX}/manifests/latest")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == (
        f'Bearer realm="{hub.realm}",service="registry.docker.io",scope="repository:{NGINX}:pull"'
    )
    assert hub.pulls == 0


async def test_a_token_opens_its_own_repository_only(
    hub: Hub, client: Client, image: Image
) -> None:
    hub.add(image, "library/redis", "latest")
    token = json.loads((await client.token(NGINX)).body)
    assert token["token"] == token["access_token"]
    assert token["expires_in"] == 300
    bearer = {"Authorization": f"Bearer {token['token']}"}
    own = await client.ask("GET", f"{hub.url}/v2/{NGINX}/manifests/latest", bearer)
    other = await client.ask("GET", f"{hub.url}/v2/library/redis/manifests/latest", bearer)
    assert (own.status, own.body) == (200, image.manifest)
    assert other.status == 401
    assert 'error="insufficient_scope"' in other.headers["WWW-Authenticate"]


async def test_a_token_ages_by_the_clock_and_dies_when_revoked(image: Image) -> None:
    now = [0.0]
    async with Hub(Terms(clock=lambda: now[0])) as hub, Client(hub) as client:
        hub.add(image, NGINX, "latest")
        bearer = await client.bearer(NGINX)
        url = f"{hub.url}/v2/{NGINX}/manifests/latest"
        assert (await client.ask("HEAD", url, bearer)).status == 200
        now[0] = 300
        assert (await client.ask("HEAD", url, bearer)).status == 401
        now[0] = 0
        hub.tokens.revoke()
        assert (await client.ask("HEAD", url, bearer)).status == 401


async def test_private_and_missing_repositories_look_the_same_to_strangers(
    hub: Hub, client: Client, image: Image
) -> None:
    hub.terms.users["alice"] = "secret"
    hub.add(image, "acme/private", "1")
    hub.make_private("acme/private", "alice")
    assert (await client.pull("acme/private/manifests/1")).status == 401
    assert (await client.pull("acme/nothing/manifests/1")).status == 401
    assert (await client.pull("acme/private/manifests/1", user="alice")).status == 200
    assert (await client.token("acme/private", user="mallory")).status == 401


@pytest.mark.parametrize("auth", ["none", "basic"])
async def test_the_other_kinds_of_auth(image: Image, auth: str) -> None:
    terms = Terms(auth="none") if auth == "none" else Terms(auth="basic", users={"bob": "secret"})
    async with Hub(terms) as hub, Client(hub) as client:
        hub.add(image, NGINX, "latest")
        url = f"{hub.url}/v2/{NGINX}/manifests/latest"
        reply = await client.ask("GET", url)
        if auth == "basic":
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"].startswith("Basic ")
            bob = {"Authorization": aiohttp.encode_basic_auth("bob", "secret")}
            reply = await client.ask("GET", url, bob)
        assert reply.status == 200


async def test_a_default_user_agent_gets_a_web_page(hub: Hub) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{hub.url}/v2/") as response:
        assert response.status == 403
        assert response.content_type == "text/html"
    assert hub.count(status=403) == 1


async def test_head_and_get_of_a_manifest_agree(client: Client, image: Image) -> None:
    head = await client.pull(f"{NGINX}/manifests/latest", "HEAD")
    get = await client.pull(f"{NGINX}/manifests/{image.digest}")
    for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag"):
        assert head.headers[name] == get.headers[name]
    assert head.body == b""
    assert get.headers["Docker-Content-Digest"] == image.digest
    missing = await client.pull(f"{NGINX}/manifests/nope")
    assert missing.status == 404
    assert json.loads(missing.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"


async def test_pulls_are_spent_by_get_and_not_by_head(
    hub: Hub, client: Client, image: Image
) -> None:
    hub.terms.limit = 2
    path = f"{NGINX}/manifests/latest"
    head = await client.pull(path, "HEAD")
    assert head.headers["ratelimit-limit"] == "2;w=21600"
    assert head.headers["ratelimit-remaining"] == "2;w=21600"
    assert (await client.pull(path)).headers["ratelimit-remaining"] == "1;w=21600"
    await client.pull(layer_path(image))
    await client.pull(path)
    spent = await client.pull(path)
    assert spent.status == 429
    assert json.loads(spent.body)["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert (await client.pull(path, "HEAD")).status == 200
    assert (hub.pulls, hub.limits.remaining()) == (2, 0)


async def test_a_blob_comes_from_the_cdn(hub: Hub, client: Client, image: Image) -> None:
    layer = image.layers[0]
    reply = await client.pull(layer_path(image))
    assert reply.body == layer.read()
    assert hub.count(port="registry", kind="blob", status=307) == 1
    assert hub.bodies(layer.digest) == 1
    assert hub.blob_bytes(layer.digest) == layer.size


async def test_the_cdn_refuses_credentials_and_meddled_or_used_addresses(
    hub: Hub, client: Client, image: Image
) -> None:
    url = hub.cdn.sign(image.layers[0])
    assert "%2B" in url
    refused = await client.ask("GET", url, {"Authorization": "Bearer x"})
    assert refused.status == 400
    assert b"InvalidRequest" in refused.body
    assert (await client.ask("GET", url.replace("%2B", "+"))).status == 403
    assert (await client.ask("GET", url)).status == 200
    assert (await client.ask("GET", url)).status == 403
    assert hub.bodies(image.layers[0].digest) == 1


@pytest.mark.parametrize(("requote", "status"), [(True, 403), (False, 200)])
async def test_an_address_quoted_anew_is_broken(
    hub: Hub, image: Image, requote: bool, status: int
) -> None:
    hub.terms.auth = "none"
    async with (
        aiohttp.ClientSession(
            headers={"User-Agent": AGENT}, requote_redirect_url=requote
        ) as session,
        session.get(f"{hub.url}/v2/{layer_path(image)}") as response,
    ):
        assert response.status == status


@pytest.mark.parametrize("redirect", [True, False])
async def test_a_range_is_served_exactly(
    hub: Hub, client: Client, image: Image, redirect: bool
) -> None:
    hub.terms.redirect = redirect
    layer = image.layers[0]
    part = await client.pull(layer_path(image), part="bytes=10-19")
    assert (part.status, part.body) == (206, layer.read()[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{layer.size}"
    rest = await client.pull(layer_path(image), part="bytes=-7")
    assert rest.body == layer.read()[-7:]
    beyond = await client.pull(layer_path(image), part=f"bytes={layer.size}-")
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{layer.size}"


async def test_a_big_blob_is_sent_from_its_file(hub: Hub, client: Client, tmp_path: Path) -> None:
    big = make_image(2, [20_000_000], folder=tmp_path)
    hub.add(big, NGINX, "big")
    layer = big.layers[0]
    assert isinstance(layer.data, Path)
    assert (await client.pull(layer_path(big))).body == layer.read()
    part = await client.pull(layer_path(big), part="bytes=19000000-")
    assert part.body == layer.read()[19_000_000:]
    await hub.quiet()
    assert hub.blob_bytes(layer.digest) == layer.size + len(part.body)


async def test_tags_come_in_pages(hub: Hub, client: Client, image: Image) -> None:
    for tag in ("a", "b", "c"):
        hub.tag(NGINX, tag, image)
    first = await client.pull(f"{NGINX}/tags/list?n=2")
    assert json.loads(first.body) == {"name": NGINX, "tags": ["a", "b"]}
    assert first.headers["Link"] == f'</v2/{NGINX}/tags/list?last=b&n=2>; rel="next"'
    last = await client.pull(f"{NGINX}/tags/list?last=b&n=2")
    assert json.loads(last.body)["tags"] == ["c", "latest"]
    assert "Link" not in last.headers


async def test_referrers_by_api_or_by_fallback_tag(hub: Hub, client: Client, image: Image) -> None:
    sbom = make_artifact(1, image, annotations={"who": "me"})
    hub.add(sbom, NGINX)
    listed = await client.pull(f"{NGINX}/referrers/{image.digest}")
    assert [entry["digest"] for entry in json.loads(listed.body)["manifests"]] == [sbom.digest]
    hub.terms.referrers = False
    assert (await client.pull(f"{NGINX}/referrers/{image.digest}")).status == 404
    hub.add(sbom, NGINX)
    fallback = await client.pull(f"{NGINX}/manifests/{image.digest.replace(':', '-')}")
    assert fallback.body == listed.body


async def test_a_hanging_request_is_in_the_journal(hub: Hub, client: Client) -> None:
    go = asyncio.Event()
    hub.faults.add(Fault(kind="manifest", hang=True, until=go))
    pull = asyncio.create_task(client.pull(f"{NGINX}/manifests/latest"))
    [waiting] = await hub.seen(lambda seen: seen.kind == "manifest")
    assert (waiting.status, waiting.finished, waiting.repository) == (None, False, NGINX)
    go.set()
    assert (await pull).status == 200
    assert hub.count(kind="manifest", status=200) == 1


async def test_a_client_that_hangs_up_is_noticed(hub: Hub, client: Client) -> None:
    hub.faults.add(Fault(kind="manifest", hang=True))
    pull = asyncio.create_task(client.pull(f"{NGINX}/manifests/latest"))
    await hub.seen(lambda seen: seen.kind == "manifest")
    pull.cancel()
    await hub.quiet()
    assert hub.pulls == 0


async def test_waiting_in_vain_fails_and_lists_the_seen_requests(hub: Hub, client: Client) -> None:
    await client.ask("GET", f"{hub.url}/v2/")
    with pytest.raises(AssertionError, match="registry GET /v2/ -> 401"):
        await hub.seen(lambda seen: seen.kind == "blob", within=0.01)


async def test_a_port_goes_down_and_comes_back_on_its_number(hub: Hub, client: Client) -> None:
    hub.faults.add(Fault(kind="manifest", hang=True))
    url = hub.url
    pull = asyncio.create_task(client.pull(f"{NGINX}/manifests/latest"))
    await hub.seen(lambda seen: seen.kind == "manifest")
    await hub.down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await pull
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.ask("GET", f"{url}/v2/")
    await hub.up()
    assert hub.url == url
    assert (await client.pull(f"{NGINX}/manifests/latest")).status == 200


async def test_one_port_goes_down_alone(hub: Hub, client: Client, image: Image) -> None:
    await hub.down("cdn")
    assert (await client.pull(f"{NGINX}/manifests/latest")).status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.pull(layer_path(image))
    await hub.up("cdn")
    assert (await client.pull(layer_path(image))).status == 200


async def test_a_head_may_be_answered_without_the_cdn(
    hub: Hub, client: Client, image: Image
) -> None:
    hub.terms.redirect_head = False
    head = await client.pull(layer_path(image), "HEAD")
    assert head.headers["Content-Length"] == str(image.layers[0].size)
    assert hub.count(port="cdn") == 0
    hub.faults.add(Fault(kind="blob", method="HEAD", status=503))
    assert (await client.pull(layer_path(image), "HEAD")).status == 503
    assert hub.bodies(image.layers[0].digest) == 0


async def test_stats_are_for_other_processes(hub: Hub, client: Client, image: Image) -> None:
    await client.pull(layer_path(image))
    stats = json.loads((await client.ask("GET", f"{hub.url}/_standin/stats")).body)
    assert stats["bodies"] == {image.layers[0].digest: 1}
    assert stats["bytes"] == {image.layers[0].digest: image.layers[0].size}
    await client.ask("POST", f"{hub.url}/_standin/reset")
    assert hub.requests == []
