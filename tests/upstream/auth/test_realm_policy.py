"""Credentials go to an upstream's own token server, and to no other host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from mirror.oci.errors import UpstreamMisbehaved
from mirror.upstream.auth.realm_policy import check_realm
from tests.standin import Hub, Image, make_image
from tests.standin.flavours import Asked, Flavour, Harbor, OAuth, Quay
from tests.support.accounts import upstream
from tests.support.mirror import Run

HUB = "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("upstream", "realm", "credentials", "trusted"),
    [
        (HUB, "https://auth.docker.io/token", True, True),
        (HUB, "https://AUTH.docker.io./token", True, True),
        (HUB, "https://evil.example/token", True, False),
        (HUB, "https://docker.io.evil.example/token", True, False),
        (HUB, "https://evildocker.io/token", True, False),
        (HUB, "https://auth.docker.io@evil.example/token", True, False),
        (HUB, "https://auth.docker.io@evil.example/token", False, False),
        (HUB, "https://other.example/token", False, True),
        (HUB, "http://auth.docker.io/token", False, False),
        (HUB, "https://127.0.0.1/token", True, False),
        (HUB, "https://127.0.0.1/token", False, False),
        (HUB, "https://[::1]/token", False, False),
        (HUB, "https://169.254.169.254/token", False, False),
        (HUB, "https://2130706433/token", False, False),
        (HUB, "https://0x7f.1/token", False, False),
        (HUB, "https://localhost/token", False, False),
        (HUB, "https://metadata.google.internal/token", True, False),
        ("https://registry.corp.internal", "https://auth.corp.internal/token", True, True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True, True),
        ("https://a.github.io", "https://b.github.io/token", True, False),
        ("https://a.co.uk", "https://b.co.uk/token", True, False),
        ("https://a.b.co.uk", "https://c.b.co.uk/token", True, True),
        ("https://registry.corp", "https://auth.corp/token", True, False),
        ("https://registry.corp:5000", "https://registry.corp/token", True, True),
        ("http://nexus", "http://nexus:8082/token", True, True),
        ("http://127.0.0.1:1", "http://127.0.0.1:2/token", True, True),
        ("http://127.0.0.1:1", "http://127.0.0.2:1/token", True, False),
        ("http://127.0.0.1:1", "http://127.0.0.2:1/token", False, False),
        ("https://10.0.0.1", "https://9.0.0.1/token", True, False),
        ("https://10.0.0.1", "http://10.0.0.1/token", True, False),
        ("https://a.example", "ftp://a.example/token", False, False),
        ("https://a.example", "nonsense", False, False),
        ("https://a.example", "https://[broken", False, False),
    ],
)
async def test_a_password_goes_to_the_upstreams_own_domain_only(
    upstream: str, realm: str, credentials: bool, trusted: bool
) -> None:
    if trusted:
        asked = await check_realm(URL(upstream), realm, (), credentials=credentials)
        assert asked == URL(realm)
    else:
        with pytest.raises(UpstreamMisbehaved):
            await check_realm(URL(upstream), realm, (), credentials=credentials)


@pytest.mark.parametrize(
    ("origin", "realm"),
    [
        ("https://gitlab.example:8443", "https://gitlab.example:8443/jwt/auth"),
        ("https://gitlab.example:443", "https://GitLab.example/jwt/auth"),
        ("http://10.1.2.3", "http://10.1.2.3:80/token"),
    ],
)
async def test_a_listed_token_server_is_trusted_by_origin(origin: str, realm: str) -> None:
    own, listed = URL("https://registry.other.example"), {URL(origin)}
    assert await check_realm(own, realm, listed, credentials=True) == URL(realm)
    near = str(URL(realm).with_port(1))
    with pytest.raises(UpstreamMisbehaved):
        await check_realm(own, near, listed, credentials=True)


async def test_a_foreign_realm_gets_no_password_and_is_named(
    hub: Hub, run: Run, image: Image
) -> None:
    account = upstream(hub, username="robot", password="s3cret-word")
    async with Harbor(hub, {"robot": "s3cret-word"}, host="127.0.0.2") as server:
        async with run(upstreams=account) as mirror:
            got = await mirror.manifest("library/nginx", "latest")
        assert (got.status, b"127.0.0.2" in got.body, server.asked) == (502, True, [])


async def test_a_realm_that_changes_is_checked_again(hub: Hub, run: Run, image: Image) -> None:
    """The trusted realm was another one."""
    hub.tag("library/nginx", "other", make_image(2, [1000]))
    users = {"robot": "s3cret-word"}
    account = upstream(hub, username="robot", password="s3cret-word")
    async with Harbor(hub, users), run(upstreams=account) as mirror:
        await mirror.pull("library/nginx", "latest", image)
        async with Quay(hub, users, host="127.0.0.2") as foreign:
            hub.tokens.revoke()
            assert (await mirror.manifest("library/nginx", "other")).status == 502
            assert foreign.asked == []


async def test_a_realm_that_was_not_trusted_is_asked_for_again(
    hub: Hub, run: Run, image: Image
) -> None:
    users = {"robot": "s3cret-word"}
    account = upstream(hub, username="robot", password="s3cret-word")
    async with Quay(hub, users, host="127.0.0.2"), run(upstreams=account) as mirror:
        assert (await mirror.manifest("library/nginx", "latest")).status == 502
        assert (await mirror.manifest("library/nginx", "latest")).status == 502
        async with Harbor(hub, users):
            await mirror.pull("library/nginx", "latest", image)


class Elsewhere(Flavour):
    """A token server that redirects its clients, together with their forms."""

    target = ""

    def answer(self, _asked: Asked) -> dict[str, Any]:
        """Answer with an empty document."""
        return {}

    def sent(self, _document: dict[str, Any]) -> web.Response:
        """Redirect to the target."""
        return web.Response(status=307, headers={"Location": self.target})


async def test_a_form_with_a_secret_follows_no_redirect(
    hub: Hub, run: Run, image: Image, tmp_path: Path
) -> None:
    """A redirect would take the body along, unlike the Authorization header."""
    host = hub.url.removeprefix("http://")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {host: {"identitytoken": "s3cret-word"}}}))
    account = upstream(hub, docker_config=str(config))
    async with OAuth(hub) as thief, Elsewhere(hub) as server:
        server.target = thief.url + "/token"
        async with run(upstreams=account) as mirror:
            assert (await mirror.manifest("library/nginx", "latest")).status == 503
        assert server.asked[0].form["refresh_token"] == "s3cret-word"
        assert thief.asked == []
