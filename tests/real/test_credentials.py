"""The mirror finds accounts where real programs store them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.standin import Hub, Image

from .mirrors import COMMAND
from .plain import PlainRegistry
from .processes import Process, answers, environment, needs, read, run, scratch

APP = "library/app"
WORD = "s3cret-word"
HTPASSWD = "robot:$2y$05$abcdefghijklmnopqrstuuEpHRRKIlpAGo.iP7Bpa.htQEJMAAnRe\n"  # WORD
INDEX = "https://index.docker.io/v1/"
KEY = """\
%no-protection
Key-Type: EdDSA
Key-Curve: ed25519
Subkey-Type: ECDH
Subkey-Curve: cv25519
Name-Real: mirror
%commit
"""


def basic(user: str) -> dict[str, str]:
    """Return an entry of a config.json, as of `docker login`."""
    return {"auth": base64.b64encode(f"{user}:{WORD}".encode()).decode()}


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """The home folder of a user with `pass`, which has the hub's account."""
    needs("docker-credential-pass", "pass", "gpg")
    with scratch() as folder:
        env = environment(folder)
        await run("gpg", "--batch", "--quiet", "--gen-key", env=env, data=KEY.encode())
        await run("pass", "init", "mirror", env=env)
        account = {"ServerURL": INDEX, "Username": "robot", "Secret": WORD}
        await run("docker-credential-pass", "store", env=env, data=json.dumps(account).encode())
        yield folder
        await run("gpgconf", "--kill", "gpg-agent", env=env)


async def pulled(home: Path, upstream: str, port: int, config: object) -> bytes:
    """Return a manifest from a mirror with this config.json; the mirror must exit with 0."""
    file = home / "config.json"
    file.write_text(json.dumps(config))
    env = environment(
        home,
        MIRROR_UPSTREAMS__DOCKER_IO__DOCKER_CONFIG=str(file),
        MIRROR_UPSTREAMS__DOCKER_IO__PRIVATE="everyone",
    )
    url = f"http://127.0.0.1:{port}"
    options = ["--listen", f"127.0.0.1:{port}", "--upstream", f"docker.io={upstream}"]
    process = Process([COMMAND, "serve", "--data-dir", home / "data", *options], env, home / "log")
    try:
        process.until(lambda: answers(f"{url}/readyz"))
        return (await asyncio.to_thread(read, f"{url}/v2/{APP}/manifests/1")).encode()
    finally:
        assert process.stop() == 0
        assert WORD not in process.log


async def test_an_account_kept_in_pass_pulls(home: Path, hub: Hub, image: Image, port: int) -> None:
    hub.terms.users = {"robot": WORD}
    hub.add(image, APP, "1")
    hub.make_private(APP, "robot")
    config = {"auths": {INDEX: {}}, "credsStore": "pass"}
    assert await pulled(home, hub.url, port, config) == image.manifest


async def test_an_account_that_pass_does_not_have_is_found_in_the_file(
    home: Path, hub: Hub, image: Image, port: int
) -> None:
    hub.terms.users = {"own": WORD}
    hub.add(image, APP, "1")
    hub.make_private(APP, "own")
    await run("docker-credential-pass", "erase", env=environment(home), data=INDEX.encode())
    config = {"auths": {INDEX: basic("own")}, "credsStore": "pass"}
    assert await pulled(home, hub.url, port, config) == image.manifest


async def test_a_registry_with_htpasswd_gives_the_account_its_images(
    hub: Hub, image: Image, port: int
) -> None:
    needs("docker-registry", "skopeo")
    hub.add(image, APP, "1")
    with scratch() as home, PlainRegistry(home, HTPASSWD) as registry:
        await registry.fill(hub.url, f"{APP}:1", "--dest-creds", f"robot:{WORD}")
        config = {"auths": {registry.url.removeprefix("http://"): basic("robot")}}
        assert await pulled(home, registry.url, port, config) == image.manifest
