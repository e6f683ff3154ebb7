"""The lines of README and operations.md, typed as they stand, work."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror
from mirror.oci.login_methods import METHODS
from tests.real.machines import Machine, machine
from tests.real.processes import CommandFailed, answers, needs, read
from tests.standin import Hub, Image
from tests.support.ports import free_port

from .conftest import PROJECT

OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
CONFIG = "/etc/mirror/mirror.toml"
DATA = "/var/lib/mirror"
APP = "library/app"


def lines(heading: str) -> list[list[str]]:
    """Return the lines to type below a heading, by block."""
    rest = re.split(rf"^#+ {heading}\n", OPERATIONS, flags=re.MULTILINE)[1]
    section = re.split(r"^##", rest, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return [block.splitlines() for block in blocks]


def tracked() -> list[str]:
    """Return the files of the checkout."""
    command = ["git", "-C", str(PROJECT), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    return [name for name in listed.stdout.split("\0") if (PROJECT / name).is_file()]


@pytest.fixture
def host() -> Iterator[Machine]:
    """A machine with a checkout in /src."""
    needs("git", "systemctl")
    with machine() as host:
        for name in tracked():
            copy = host.path(f"/src/{name}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy)
        yield host


def install(host: Machine) -> None:
    """Type the first block of the installation with systemd."""
    for line in lines("With systemd")[0]:
        host.run(f"cd /src && {line}", within=300)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("begins", "command"), [("pipx", "~/.local/bin/mirror"), ("python3", "~/mirror/bin/mirror")]
)
def test_the_command_is_installed_as_the_readme_has_it(
    host: Machine, begins: str, command: str
) -> None:
    needs(begins)
    readme = (PROJECT / "README.md").read_text()
    [line] = re.findall(rf"^({begins} .*?) +#", readme, flags=re.MULTILINE)
    host.run(f"cd /src && PATH=/usr/bin && {line}", within=300)
    assert host.run(f"{command} --version").strip() == f"mirror {mirror.__version__}"


@pytest.mark.timeout(600)
async def test_the_command_serves_and_finds_its_data_in_the_folder_it_is_run_in(
    host: Machine, hub: Hub, image: Image, tmp_path: Path
) -> None:
    needs("pipx")
    install_it, serve, usage = (line.partition(" #")[0].strip() for line in lines("To try it")[0])
    path = "PATH=~/.local/bin:/usr/bin:/bin"
    await asyncio.to_thread(host.run, f"cd /src && {path} {install_it}", within=300)
    host.run("mkdir /tried")
    url = f"http://127.0.0.1:{free_port()}"
    given = f"MIRROR_LISTEN={url[7:]} MIRROR_UPSTREAMS__DOCKER_IO__URL={hub.url}"
    hub.add(image, APP, "1")
    begun = f"export {path} {given} && cd /tried && exec {serve}"
    daemon = host.start(f"sh -c '{begun}'", "root", tmp_path / "log")
    try:
        await asyncio.to_thread(daemon.until, lambda: answers(f"{url}/readyz"))
        await asyncio.to_thread(read, f"{url}/v2/{APP}/manifests/1")
        used = await asyncio.to_thread(host.run, f"cd /tried && {path} {usage}")
    finally:
        code = await asyncio.to_thread(daemon.stop)
    assert code == 0
    assert f"docker.io/{APP}" in used


@pytest.mark.timeout(600)
def test_what_clouds_take_is_added_to_an_installation_by_hand(host: Machine) -> None:
    install(host)
    section = OPERATIONS.partition("log in to Amazon's")[2].partition("\n\n")[0]
    pip = " ".join(re.findall(r"`(/opt/mirror/bin/pip install)\s", section))
    extras = re.findall(r"'(\.\[\w+\])'", section)
    assert extras == [".[aws]", ".[google]", ".[azure]"]
    modules = {f".[{method.extra}]": method.module for method in METHODS.values() if method.extra}
    for extra in extras:
        imported = f"/opt/mirror/bin/python -c 'import {modules[extra]}'"
        with pytest.raises(CommandFailed):
            host.run(imported)
        host.run(f"cd /src && {pip} --quiet '{extra}'", within=300)
        host.run(imported, "mirror")
    assert host.run("mirror --version").strip() == f"mirror {mirror.__version__}"


@pytest.mark.timeout(600)
async def test_a_service_is_installed_by_hand_and_its_commands_find_the_data(
    host: Machine, hub: Hub, image: Image, tmp_path: Path
) -> None:
    await asyncio.to_thread(install, host)
    assert host.run("mirror --version").strip() == f"mirror {mirror.__version__}"
    port = free_port()
    password, secret = lines("With systemd")[2], "hub-secret"
    host.run(password[0])
    host.run(f"echo {secret} | {password[1]}")
    assert host.run("cat /etc/mirror/docker.io.password", "mirror").strip() == secret
    config = host.path(CONFIG)
    text = config.read_text().replace('#listen = "127.0.0.1:5000"', f'listen = "127.0.0.1:{port}"')
    config.write_text(f'{text}\n[upstreams."docker.io"]\nurl = "{hub.url}"\n')

    reload, enable, journal, usage = lines("With systemd")[1]
    host.run(reload)
    host.run(enable.replace(" --now", ""))  # systemd does not run here
    assert host.run("systemctl is-enabled mirror").strip() == "enabled"
    assert journal == "journalctl -u mirror"
    unit = host.path("/etc/systemd/system/mirror.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    [user] = re.findall(r"^User=(.*)$", unit, flags=re.MULTILINE)
    host.run(f"install -d -m 0750 -o {user} -g {user} {DATA}")  # as StateDirectory does
    hub.add(image, APP, "1")
    daemon = host.start(command, user, tmp_path / "log")
    try:
        url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(daemon.until, lambda: answers(f"{url}/readyz"))
        await asyncio.to_thread(read, f"{url}/v2/{APP}/manifests/1")
        for who in ("root", user):
            assert f"docker.io/{APP}" in await asyncio.to_thread(host.run, usage, who)
    finally:
        code = await asyncio.to_thread(daemon.stop)
    assert code == 0
    assert f"docker.io/{APP}" in host.run(usage)
    assert host.owners(DATA) == {"mirror"}


@pytest.mark.timeout(1200)
def test_the_package_is_built_and_installed_by_the_documented_lines(host: Machine) -> None:
    make, apt = lines("As a Debian package")[0]
    host.run(f"cd /src && {make}", within=900)
    host.run(f"cd /src && {apt}")
    assert host.run("mirror --version").strip() == f"mirror {mirror.__version__}"
    restart, journal, usage = lines("As a Debian package")[1]
    assert (restart, journal) == ("systemctl restart mirror", "journalctl -u mirror")
    with pytest.raises(CommandFailed, match="no mirror keeps its data in /var/lib/mirror"):
        host.run(usage)  # no systemd here; real/test_debian_package has a running mirror
    host.run("apt-get remove --yes mirror")
    assert host.path(CONFIG).exists()
    host.run("apt-get purge --yes mirror")
    assert not host.path(CONFIG).exists()
    assert not host.path(DATA).exists()


@pytest.mark.timeout(600)
def test_data_of_the_first_version_is_moved_to_its_place(host: Machine) -> None:
    install(host)
    host.run("mkdir -p /var/lib/private/mirror/blobs")
    host.run(f"ln -s private/mirror {DATA} && sed -i /^data_dir/d {CONFIG}")
    stop, *rest = lines("Upgrade")[0]
    assert stop == "systemctl stop mirror"
    for line in rest:
        host.run(line)
    assert "in all" in host.run("mirror du")
    assert host.owners(DATA) == {"mirror"}
