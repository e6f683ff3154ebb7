"""Debian's docker-registry: an upstream that is none of ours, without limits."""

import re
from pathlib import Path
from typing import Self

from .processes import Command, Process, environment, free_port, listens, run

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
    """A registry as one runs it at home; with an htpasswd file, nobody else gets in.

    Nor does anybody without a token where `realm` issues them, signed by one in `bundle`.
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
        """Its base URL."""
        return f"http://{self._address}"

    @property
    def asked(self) -> list[str]:
        """Every request of its log: method and target."""
        return ASKED.findall((self._folder / "registry.log").read_text())

    async def fill(self, hub_url: str, name: str, *options: str) -> None:
        """Copy an image from a hub, as it is, with these options of skopeo's."""
        source = f"docker://{hub_url.removeprefix('http://')}/{name}"
        target = f"docker://{self._address}/{name}"
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        words = ["copy", "--all", "--preserve-digests", *insecure, *options, source, target]
        await run("skopeo", *words, env=self._env)

    def stop(self) -> None:
        """Stop it."""
        if self._process:
            self._process.stop()
