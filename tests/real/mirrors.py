"""The mirror, started as operators start it: `mirror serve`, a folder, an upstream."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from .processes import Command, Process, answers, environment, listens, read, scratch

COMMAND = Path(sys.executable).parent / "mirror"

# The engines' upstreams; the third cannot be in a path, so a host stands for it.
HUB, GHCR, QUAY = UPSTREAMS = ("docker.io", "ghcr.example", "quay.example:5000")
CONFIG = f"""\
[upstreams."{GHCR}"]
url = "https://{GHCR}"
[upstreams."{QUAY}"]
url = "https://{QUAY}"
hosts = ["localhost"]
"""


def tell(
    client: str,
    port: int,
    folder: Path,
    ca: Path | None = None,
    *,
    config: str = CONFIG,
    only: bool = False,
) -> None:
    """Write a client's configuration for a mirror on `port` into its folder.

    With a `ca` the mirror serves TLS, with a certificate of this CA. With `only` the client may
    use only the mirror.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mirror.toml"
    file.write_text(config)
    command: Command = [COMMAND, "client-config", client, "--config", file, "--output", folder]
    command += ["--listen", f"127.0.0.1:{port}", "--force", *(["--only"] if only else [])]
    command += ["--url", f"https://127.0.0.1:{port}", "--ca", ca] if ca else []
    subprocess.run(command, env=environment(folder), check=True, capture_output=True, timeout=20)
    file.unlink()


def shown(authority: trustme.CA, folder: Path, *names: str) -> list[str | Path]:
    """Return the options to serve TLS with a certificate of this CA.

    The certificate is for the loopback and for these names.
    """
    issued = authority.issue_cert("localhost", "127.0.0.1", *names)
    issued.cert_chain_pems[0].write_to_path(str(folder / "mirror.pem"))
    issued.private_key_pem.write_to_path(str(folder / "mirror.key"))
    return ["--tls-cert", folder / "mirror.pem", "--tls-key", folder / "mirror.key"]


class Mirror:
    """A mirror of `docker.io` at `upstream`, which may be stopped and started again."""

    def __init__(self, folder: Path, port: int, upstream: str, options: tuple[str, ...]) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._command: Command = [COMMAND, "serve", "--listen", f"127.0.0.1:{port}"]
        self._command += ["--data-dir", folder / "data", "--upstream", f"docker.io={upstream}"]
        self._command += options
        self._process: Process | None = None

    @property
    def log(self) -> str:
        """The mirror's output since its first start."""
        return (self._folder / "log").read_text()

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._folder / "data"

    @property
    def listens(self) -> bool:
        """Whether the mirror accepts connections."""
        return listens(self._port)

    @property
    def largest(self) -> int:
        """The size of the largest kept file, in bytes."""
        sizes = [file.stat().st_size for file in (self._folder / "data").rglob("*")]
        return max(sizes, default=0)

    def metrics(self) -> str:
        """Return the metrics, as Prometheus reads them."""
        return read(f"{self.url}/metrics")

    def metric(self, name: str) -> float:
        """Return one metric, by its name with labels; 0 without it."""
        lines = self.metrics().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    async def until(self, wanted: Callable[[], bool], within: float = 20) -> None:
        """Wait until a condition on the mirror holds."""
        assert self._process, "it is not running"
        await asyncio.to_thread(self._process.until, wanted, within)

    def start(self) -> None:
        """Start the mirror and wait until it serves."""
        self._process = Process(self._command, environment(self._folder), self._folder / "log")
        self._process.until(lambda: answers(f"{self.url}/readyz"))

    def terminate(self) -> None:
        """Send SIGTERM, without waiting for the end."""
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        """End the mirror as a power cut would."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.stop()

    async def ended(self, within: float) -> int:
        """Wait for the mirror's end and return its exit code."""
        process, self._process = self._process, None
        assert process, "it was ended before"
        try:
            return await asyncio.to_thread(process.wait, within)
        finally:
            process.stop()

    async def restart(self) -> None:
        """Stop the mirror by SIGTERM, and start it again on the same folder."""
        self.terminate()
        assert await self.ended(within=20) == 0
        self.start()

    async def close(self) -> None:
        """Stop the mirror if it runs; it must exit with 0, and without a traceback in its log."""
        if self._process:
            self.terminate()
            assert await self.ended(within=45) == 0
        assert "Traceback" not in self.log


@asynccontextmanager
async def mirroring(upstream: str, port: int, *options: str) -> AsyncIterator[Mirror]:
    """Run a mirror of `upstream` with an empty folder."""
    with scratch() as folder:
        mirror = Mirror(folder, port, upstream, options)
        mirror.start()
        try:
            yield mirror
        finally:
            await mirror.close()
