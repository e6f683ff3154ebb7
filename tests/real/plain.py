"""Debian's docker-registry: an upstream that is none of ours, without logins or limits."""

import re
from pathlib import Path
from typing import Self

from .processes import Command, Process, answers, environment, free_port, run

CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: "{folder}/registry"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
ASKED = re.compile(r'"((?:GET|HEAD) \S+) HTTP/1\.1"')


class PlainRegistry:
    """A registry as one runs it at home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = environment(folder)
        self._address = f"127.0.0.1:{(port := free_port())}"
        self._config = folder / "registry.yml"
        self._config.write_text(CONFIG.format(folder=folder, port=port))
        self._process: Process | None = None

    def __enter__(self) -> Self:
        command: Command = ["docker-registry", "serve", self._config]
        self._process = Process(command, self._env, self._folder / "registry.log")
        self._process.until(lambda: answers(f"{self.url}/v2/"))
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

    async def fill(self, hub_url: str, name: str) -> None:
        """Copy an image from a hub, as it is."""
        source = f"docker://{hub_url.removeprefix('http://')}/{name}"
        target = f"docker://{self._address}/{name}"
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        words = ["copy", "--all", "--preserve-digests", *insecure, source, target]
        await run("skopeo", *words, env=self._env)

    def stop(self) -> None:
        """Stop it."""
        if self._process:
            self._process.stop()
