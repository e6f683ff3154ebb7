"""Behind Caddy and nginx of deploy/fronts, pulls stream and clients keep their addresses."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.standin import Fault, Hub, Image, make_image
from tests.support.ports import free_port

from .containers import Skopeo
from .mirrors import COMMAND, shown
from .processes import Command, Process, environment, listens, needs, scratch

APP = "library/app"
FRONTS = Path(__file__).parents[2] / "deploy" / "fronts"
CLIENT = "127.0.0.5"
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
NGINX = """\
{modules}
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
{rest}
"""
HTTP = """\
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/front.conf;
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https disable_redirects\n}}\nimport {folder}/front.conf\n"


def installed(name: str, folder: Path, front: int, behind: int) -> Command:
    """Complete the configuration round a file of deploy/fronts; returns the command to run it."""
    text = (FRONTS / name).read_text()
    text = text.replace("127.0.0.1:5000", f"127.0.0.1:{behind}")
    text = re.sub(r"listen 443\b", f"listen 127.0.0.1:{front}", text)
    text = text.replace("/etc/nginx/mirror", f"{folder}/mirror")
    tls = f"https://127.0.0.1:{front} {{\n\ttls {folder}/mirror.pem {folder}/mirror.key\n"
    (folder / "front.conf").write_text(text.replace("mirror.example {\n", tls))
    config = folder / "config"
    if name == "Caddyfile":
        config.write_text(CADDY.format(folder=folder))
        return ["caddy", "run", "--adapter", "caddyfile", "--config", config]
    streams = name == "nginx-stream.conf"
    modules = f"load_module {MODULE};" if streams else ""
    rest = f"include {folder}/front.conf;" if streams else HTTP.format(folder=folder)
    config.write_text(NGINX.format(folder=folder, modules=modules, rest=rest))
    return ["nginx", "-p", folder, "-c", config]


def told(name: str) -> dict[str, str]:
    """Return the mirror's settings in the comments of the file."""
    lines = re.findall(r"^#   (\w+) = (.*)$", (FRONTS / name).read_text(), flags=re.MULTILINE)
    return {key: value.strip('[]"') for key, value in lines}


class Fronted:
    """A mirror behind a front. `port` is the front's."""

    def __init__(self, name: str, hub: Hub, folder: Path, authority: trustme.CA) -> None:
        self.port, behind = free_port(), free_port()
        self._log = folder / "mirror.log"
        keys = {**told(name), "listen": f"127.0.0.1:{behind}", "data-dir": str(folder / "data")}
        certificate = shown(authority, folder)
        for key, place in (("tls_cert", certificate[1]), ("tls_key", certificate[3])):
            if key in keys:
                keys[key] = str(place)
        options = [f"--{key.replace('_', '-')}={value}" for key, value in keys.items()]
        serve: Command = [COMMAND, "serve", *options, "--upstream", f"docker.io={hub.url}"]
        front = installed(name, folder, self.port, behind)
        self._commands: list[tuple[Command, int]] = [(serve, behind), (front, self.port)]
        self._folder = folder
        self._processes: list[Process] = []
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)

    def start(self) -> None:
        """Run both."""
        for command, port in self._commands:
            log = self._folder / f"{Path(command[0]).name}.log"
            process = Process(command, environment(self._folder), log)
            self._processes.append(process)
            process.until(partial(listens, port))

    def session(self) -> aiohttp.ClientSession:
        """Return a client with a separate address."""
        connector = aiohttp.TCPConnector(local_addr=(CLIENT, 0), ssl=self.context)
        return aiohttp.ClientSession(f"https://127.0.0.1:{self.port}", connector=connector)

    async def clients(self, agent: str) -> set[str]:
        """Return the client addresses that the mirror logged with this User-Agent."""

        def logged() -> list[str]:
            return re.findall(rf' client=(\S+) .*agent="?{agent}', self._log.read_text())

        await asyncio.to_thread(self._processes[0].until, lambda: bool(logged()))
        return set(logged())

    def stop(self) -> None:
        """End both."""
        for process in reversed(self._processes):
            process.stop()


@pytest.fixture(params=["Caddyfile", "nginx.conf", "nginx-stream.conf"])
def front(request: pytest.FixtureRequest) -> str:
    """Each front in turn; the file's name."""
    name = str(request.param)
    needs("caddy" if name == "Caddyfile" else "nginx", "skopeo")
    if name == "nginx-stream.conf" and not MODULE.exists():
        pytest.skip("apt-get install libnginx-mod-stream")
    return name


@contextmanager
def fronted(name: str, hub: Hub) -> Iterator[tuple[Fronted, Path]]:
    """Run a mirror behind a front; yields a folder with `ca.crt`, too."""
    authority = trustme.CA()
    with scratch() as folder:
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        behind = Fronted(name, hub, folder, authority)
        try:
            behind.start()
            yield behind, folder
        finally:
            behind.stop()


async def test_a_client_pulls_through_a_front_and_is_known(
    hub: Hub, image: Image, front: str
) -> None:
    hub.add(image, APP, "1")
    with fronted(front, hub) as (behind, folder):
        (folder / "skopeo").mkdir()
        with Skopeo(folder / "skopeo", behind.port, ca=folder / "ca.crt") as skopeo:
            await skopeo.pull(APP, "1")
            assert (await skopeo.held(APP, "1")).is_same(image)
        assert await behind.clients("skopeo")
        spoofed = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
        async with behind.session() as session, session.get("/v2/", headers=spoofed) as got:
            assert got.status == 200
        assert await behind.clients("Python") == {CLIENT}


async def test_a_front_passes_layers_on_as_they_come(hub: Hub, front: str) -> None:
    """A client gets the bytes that have arrived, and layers of any length pass."""
    image = make_image(front, [40_000_000])
    hub.add(image, APP, "1")
    layer, gate = image.layers[0], asyncio.Event()
    hub.faults.add(Fault(kind="blob", stall_after=20_000_000, until=gate))
    with fronted(front, hub) as (behind, folder):
        async with (
            asyncio.timeout(30),
            behind.session() as session,
            session.get(f"/v2/{APP}/blobs/{layer.digest}") as got,
        ):
            assert got.headers["Content-Length"] == str(layer.size)
            first = await got.content.readexactly(15_000_000)
            gate.set()
            assert first + await got.content.read() == layer.read()
        spilt = [file for kind in ("proxy", "body") for file in (folder / kind).rglob("*")]
        assert not [file for file in spilt if file.is_file()]


def test_all_fronts_are_tried() -> None:
    assert {file.name for file in FRONTS.iterdir()} == {
        "Caddyfile",
        "nginx.conf",
        "nginx-stream.conf",
    }
