"""Debian's docker-registry: a real upstream without limits."""

import re
from pathlib import Path
from typing import Self

from tests.support.ports import free_port

from .processes import Command, Process, environment, listens, run

CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: "{folder}/registry"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
LOGIN = """\
auth: {{htpasswd: {{realm: "private", path: "{folder}/htpasswd"}}}}
"""
TOKENS = """\
auth: {{token: {{realm: "{realm}", service: "plain", issuer: "tests", rootcertbundle: "{bundle}"}}}}
"""
ASKED = re.compile(r'"((?:GET|HEAD) \S+) HTTP/1\.1"')


class PlainRegistry:
    """A plain registry; with an htpasswd file, only for its users.

    With a `realm`, only for clients with a token from there, signed by a certificate in `bundle`.
    """

    def __init__(
        self, folder: Path, htpasswd: str = "", realm: str = "", bundle: Path | None = None
    ) -> None:
        self._folder = folder
        self._env = environment(folder)
        self._port = free_port()
        self._address = f"127.0.0.1:{self._port}"
        self._config = folder / "registry.yml"
        config = CONFIG + (LOGIN if htpasswd else "") + (TOKENS if realm else "")
        self._config.write_text(
            config.format(folder=folder, port=self._port, realm=realm, bundle=bundle)
        )
        (folder / "htpasswd").write_text(htpasswd)
        self._process: Process | None = None

    def __enter__(self) -> Self:
        command: Command = ["docker-registry", "serve", self._config]
        self._process = Process(command, self._env, self._folder / "registry.log")
        self._process.until(lambda: listens(self._port))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The registry's base URL."""
        return f"http://{self._address}"

    @property
    def asked(self) -> list[str]:
        """Every request in the registry's log: method and target."""
        return ASKED.findall((self._folder / "registry.log").read_text())

    async def fill(self, hub_url: str, name: str, *options: str) -> None:
        """Copy an image from a hub, unchanged, with these options of skopeo."""
        source = f"docker://{hub_url.removeprefix('http://')}/{name}"
        target = f"docker://{self._address}/{name}"
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        words = ["copy", "--all", "--preserve-digests", *insecure, *options, source, target]
        await run("skopeo", *words, env=self._env)

    def stop(self) -> None:
        """Stop the registry."""
        if self._process:
            self._process.stop()
