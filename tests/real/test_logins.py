"""The mirror logs in to a registry with tokens, and a real client to the mirror, over TLS."""

import asyncio
import json
from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.standin import Hub, Image

from .mirrors import COMMAND, shown
from .plain import PlainRegistry
from .processes import CommandFailed, Process, environment, listens, needs, run, scratch
from .tokens import TokenServer, issuing

APP = "library/app"
WORD = "s3cret-word"


async def test_a_registry_with_tokens_gives_the_account_its_images(
    hub: Hub, image: Image, port: int
) -> None:
    needs("docker-registry", "skopeo")
    hub.add(image, APP, "1")
    authority = trustme.CA()
    server = TokenServer(authority, "robot", WORD)
    with scratch() as home:
        bundle = home / "bundle.pem"
        authority.cert_pem.write_to_path(str(bundle))
        async with issuing(server) as origin:
            with PlainRegistry(home, realm=f"{origin}/token", bundle=bundle) as registry:
                await registry.fill(hub.url, f"{APP}:1", "--dest-creds", f"robot:{WORD}")
                server.asked.clear()
                account = {"username": "robot", "password": WORD, "realms": [origin]}
                upstream = {"url": registry.url, "private": "everyone", **account}
                assert await copied(home / "open", port, upstream) == image.manifest
                with pytest.raises(CommandFailed, match=r"(?i)denied"):
                    await copied(home / "shut", port, upstream | {"private": "nobody"})
    assert (f"repository:{APP}:pull", True) in server.asked
    assert (f"repository:{APP}:pull", False) in server.asked


async def copied(folder: Path, port: int, upstream: object) -> bytes:
    """Return skopeo's manifest through a mirror of this upstream; raises CommandFailed."""
    await asyncio.to_thread(folder.mkdir)
    env = environment(folder, MIRROR_UPSTREAMS=json.dumps({"docker.io": upstream}))
    options: list[str | Path] = ["--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
    mirror = Process([COMMAND, "serve", *options], env, folder / "log")
    source = f"docker://127.0.0.1:{port}/{APP}:1"
    try:
        mirror.until(lambda: listens(port))
        words = ["copy", "--src-tls-verify=false", source, f"dir:{folder / 'image'}"]
        await run("skopeo", *words, env=environment(folder))
        return (folder / "image" / "manifest.json").read_bytes()
    finally:
        assert mirror.stop() == 0
        assert WORD not in mirror.log


async def test_a_client_that_is_asked_to_logs_in_over_tls(
    hub: Hub, image: Image, port: int
) -> None:
    needs("skopeo")
    hub.add(image, APP, "1")
    authority = trustme.CA()
    with scratch() as folder:
        (folder / "certs").mkdir()
        authority.cert_pem.write_to_path(str(folder / "certs" / "ca.crt"))
        hashed = bcrypt.hashpw(WORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "users").write_text(f"ci:{hashed}\n")
        options: list[str | Path] = ["--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
        options += shown(authority, folder)
        options += ["--htpasswd", folder / "users", "--challenge", "true"]
        options += ["--upstream", f"docker.io={hub.url}"]
        env = environment(folder)
        mirror = Process([COMMAND, "serve", *options], env, folder / "log")
        try:
            mirror.until(lambda: listens(port))
            source = f"docker://localhost:{port}/{APP}:1"
            copy = ["copy", "--src-cert-dir", str(folder / "certs")]
            for login in (["--src-creds", "ci:wrong"], ["--src-no-creds"]):
                with pytest.raises(CommandFailed, match=r"(?i)unauthorized"):
                    await run("skopeo", *copy, *login, source, f"dir:{folder / 'no'}", env=env)
            login = ["--src-creds", f"ci:{WORD}"]
            await run("skopeo", *copy, *login, source, f"dir:{folder / 'image'}", env=env)
            assert (folder / "image" / "manifest.json").read_bytes() == image.manifest
        finally:
            assert mirror.stop() == 0
        assert WORD not in mirror.log
        assert "user=ci" in mirror.log
