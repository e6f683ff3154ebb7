"""The Debian package on a separate machine: installed, started, used, removed and purged."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror
from tests.standin import Hub, Image
from tests.support.ports import free_port

from .machines import Machine, machine
from .processes import CommandFailed, Process, answers, needs, read

PROJECT = Path(__file__).parents[2]
APP = "library/app"
DATA = "/var/lib/mirror"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, with compiled parts only for this machine's Python."""
    needs("dpkg-deb", "py3compile", "systemctl")
    folder = tmp_path_factory.mktemp("package")
    asked = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    python = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, f"--wheel-dir={folder}", PROJECT], check=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    build: list[str | Path] = [PROJECT / "deploy/debian/build.sh", sys.executable, wheel, folder]
    subprocess.run(build, env=os.environ | {"PYTHONS": python}, check=True, timeout=300)
    [package] = folder.glob("*.deb")
    return package


@pytest.fixture
def host(package: Path) -> Iterator[Machine]:
    """A machine with the package."""
    with machine() as host:
        host.path("/tmp/mirror.deb").write_bytes(package.read_bytes())
        host.run("dpkg --install /tmp/mirror.deb")
        yield host


def unit(host: Machine, name: str) -> str:
    """Return a value of the installed unit."""
    text = host.path("/usr/lib/systemd/system/mirror.service").read_text()
    [value] = re.findall(rf"^{name}=(.*)$", text, flags=re.MULTILINE)
    return str(value)


def configure(host: Machine, hub: Hub) -> str:
    """Configure the mirror as an operator does; returns the mirror's URL."""
    port = free_port()
    config = host.path("/etc/mirror/mirror.toml")
    text = config.read_text().replace('#listen = "127.0.0.1:5000"', f'listen = "127.0.0.1:{port}"')
    config.write_text(f'{text}\n[upstreams."docker.io"]\nurl = "{hub.url}"\n')
    return f"http://127.0.0.1:{port}"


def started(host: Machine, url: str, tmp_path: Path) -> Process:
    """Start the daemon as the unit does, and wait until it serves."""
    process = host.start(unit(host, "ExecStart"), unit(host, "User"), tmp_path / "log")
    process.until(lambda: answers(f"{url}/readyz"))
    return process


def reloaded(host: Machine) -> None:
    """Change the file as an operator does, and reload as root and as the unit."""
    config = host.path("/etc/mirror/mirror.toml")
    config.write_text(f'{config.read_text()}\n[upstreams."ghcr.io"]\nurl = "https://ghcr.io"\n')
    told = host.run(unit(host, "ExecReload"), unit(host, "User"))
    assert told == "changed: upstreams.ghcr.io (new)\n"
    good = config.read_text()
    config.write_text(f"{good}urll = 1\n")
    with pytest.raises(CommandFailed, match=r"unknown key; did you mean url\?"):
        host.run("mirror reload")
    config.write_text(good)
    assert host.run("mirror reload") == "nothing has changed\n"


async def test_a_debian_package_is_installed_started_used_and_removed(
    host: Machine, hub: Hub, image: Image, tmp_path: Path
) -> None:
    assert host.run("mirror --version").strip() == f"mirror {mirror.__version__}"
    assert host.run(f"stat --format '%U %G %a' {DATA}").split() == ["mirror", "mirror", "750"]
    assert host.run("systemctl is-enabled mirror").strip() == "enabled"

    hub.add(image, APP, "1")
    url = configure(host, hub)
    daemon = await asyncio.to_thread(started, host, url, tmp_path)
    try:
        await asyncio.to_thread(read, f"{url}/v2/{APP}/manifests/1")
        for user in ("root", "mirror"):
            assert f"docker.io/{APP}" in await asyncio.to_thread(host.run, "mirror du", user)
        await asyncio.to_thread(reloaded, host)
    finally:
        code = await asyncio.to_thread(daemon.stop)
    assert code == 0
    assert f"docker.io/{APP}" in host.run("mirror du")
    host.run(f"rm {DATA}/index.db")
    host.run("mirror du")
    assert host.owners(DATA) == {"mirror"}  # also of files from root's command

    edited = host.path("/etc/mirror/mirror.toml").read_text()
    host.run("dpkg --install /tmp/mirror.deb")
    assert host.path("/etc/mirror/mirror.toml").read_text() == edited

    host.run("dpkg --remove mirror")
    for gone in ("/usr/bin/mirror", "/opt/mirror"):
        assert not host.path(gone).exists(), gone
    assert host.path("/etc/mirror/mirror.toml").read_text() == edited
    assert host.path(f"{DATA}/index.db").exists()

    host.run("dpkg --purge mirror")
    for gone in ("/etc/mirror", DATA, "/etc/systemd/system/multi-user.target.wants/mirror.service"):
        assert not host.path(gone).exists(), gone
    with pytest.raises(CommandFailed):
        host.run("dpkg --status mirror")


def test_a_folder_that_root_stands_in_puts_no_code_into_the_command(host: Machine) -> None:
    for name in ("json.py", "aiohttp.py", "mirror.py"):
        host.path(f"/tmp/{name}").write_text("raise SystemExit('not the mirror')")
    version = host.run("cd /tmp && PYTHONPATH=/tmp mirror --version")
    assert version.strip() == f"mirror {mirror.__version__}"
