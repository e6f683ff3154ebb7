"""Clients' configuration: files that they can read, and requests for the promised images.

These tests repeat how each client makes a request of its file; tests/real runs the clients.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from yarl import URL

from mirror.cli import main
from mirror.client_config.clients import CLIENTS
from mirror.client_config.clients import files as files_at
from mirror.client_config.endpoint import ClientEndpoint, Files
from mirror.settings import ConfigurationError, Settings, load
from mirror.web.router import ManifestPath, Router
from tests.support.command import MODULE, environment, launched, serving

HUB, GHCR, QUAY, PLAIN = "docker.io", "ghcr.io", "quay.example:5000", "r.example:8080"
CONFIG = """
listen = "10.0.0.9:5000"
[upstreams."ghcr.io"]
url = "https://ghcr.io"
[upstreams."quay.example:5000"]
url = "https://inside.example/quay"
hosts = ["quay.mirror.example"]
[upstreams."r.example:8080"]
url = "http://r.example:8080"
hosts = ["mirror.example:5001"]
"""
URLS = ["http://mirror.example:5000", "https://mirror.example", "http://[::1]:5000"]
EXAMPLE = Path(__file__).parents[2] / "daemon.json.example"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    (tmp_path / "mirror.toml").write_text(CONFIG)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Docker Hub and three other registries, two of which have their own hosts."""
    return load(file=tmp_path / "mirror.toml")


def files(client: str, url: str, settings: Settings, ca: str = "", *, only: bool = False) -> Files:
    """Return the files for a mirror at `url`."""
    return files_at(client, ClientEndpoint(url, ca, only), settings)


def hosts_of(written: Files, folder: str = "") -> dict[str, dict[str, Any]]:
    """Return the content of each registry's `hosts.toml`, by the registry."""
    found = {Path(path): text for path, text in written.items() if path.endswith("hosts.toml")}
    assert {str(path.parent.parent) for path in found} == {folder or "."}
    return {path.parent.name: tomllib.loads(text) for path, text in found.items()}


def image(settings: Settings, url: str) -> str:
    """Return the image that a request means, by its upstream's name."""
    asked = URL(url, encoded=True)
    router = Router(settings.upstreams, settings.default_upstream, settings.hosts())
    route = router.read(asked.raw_path_qs, asked.authority)
    assert isinstance(route, ManifestPath)
    return f"{route.repository}:{route.reference}"


def of_docker(text: str) -> Iterator[tuple[str, str]]:
    """The requests of dockerd: the mirror's path, then `/v2/`; Docker Hub's images only."""
    for mirror in json.loads(text)["registry-mirrors"]:
        yield f"{mirror}/v2/org/app/manifests/1", f"{HUB}/org/app:1"


@pytest.mark.parametrize("url", URLS)
def test_dockerd_finds_docker_hub(settings: Settings, url: str) -> None:
    text = files("docker", url, settings)["daemon.json"]
    [(asked, wanted)] = of_docker(text)
    assert asked.startswith(f"{url}/v2/")
    assert image(settings, asked) == wanted


@pytest.mark.parametrize("url", URLS)
def test_dockerd_that_reads_hosts_files_finds_each_upstream(settings: Settings, url: str) -> None:
    """Other registries have no file: it would take `insecure-registries` from them."""
    hosts = hosts_of(files("docker", url, settings), "certs.d")
    assert hosts == {
        name: told
        for name, told in hosts_of(files("containerd", url, settings)).items()
        if name != "_default"
    }


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (["hub.mirror.example"], "http://hub.mirror.example:5000"),
        (["hub.mirror.example:5002"], "http://hub.mirror.example:5002"),
        (["mirror.example"], "http://mirror.example:5000"),
    ],
)
def test_dockerd_finds_docker_hub_where_another_is_the_default(hosts: list[str], url: str) -> None:
    upstreams = {HUB: {"hosts": hosts}, GHCR: {"url": "https://ghcr.io"}}
    settings = load({"upstreams": upstreams, "default_upstream": GHCR})
    text = files("docker", URLS[0], settings)["daemon.json"]
    [(asked, wanted)] = of_docker(text)
    assert asked.startswith(f"{url}/v2/")
    assert image(settings, asked) == wanted


@pytest.mark.parametrize(
    ("hosts", "default"), [([], GHCR), (["mirror.example"], HUB)], ids=["default", "host"]
)
def test_dockerd_is_told_nothing_that_it_would_not_start_with(
    hosts: list[str], default: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Docker Hub at a path is refused, because dockerd accepts no path before version 25."""
    config = tmp_path / "other.toml"
    config.write_text(
        f'default_upstream = "{default}"\n'
        f'upstreams."{GHCR}" = {{ url = "https://ghcr.io", hosts = {json.dumps(hosts)} }}\n'
    )
    command = ["client-config", "docker", "--config", str(config), "--url", URLS[0]]
    assert main([*command, "--output", str(tmp_path / "etc")]) == 2
    said = capsys.readouterr()
    assert "`hosts`" in said.err
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_is_told_a_name_by_which_it_would_be_refused(client: str) -> None:
    settings = load({"host_names": "mirror.example,other.example:5001"})
    for known in (*URLS, "http://MIRROR.example", "http://other.example:5001"):
        assert files(client, known, settings)
    for unknown in ("http://mirror", "http://other.example:5000", "https://other.example"):
        with pytest.raises(ConfigurationError, match=r"host_names, .* mirror.example, other"):
            files(client, unknown, settings)


def test_the_example_in_the_docs_is_the_written_file() -> None:
    settings = load()
    told = files("docker", f"http://{settings.listen}", settings)
    assert told["daemon.json"] == EXAMPLE.read_text()


@pytest.mark.parametrize("url", URLS)
def test_containerd_finds_each_upstream_and_goes_there_without_the_mirror(
    settings: Settings, url: str
) -> None:
    folders = hosts_of(files("containerd", url, settings))
    assert folders.keys() == {HUB, GHCR, QUAY, PLAIN, "_default"}
    for name, hosts in folders.items():
        [(host, can)] = hosts["host"].items()
        assert can == {"capabilities": ["pull", "resolve"]}
        for wanted in [HUB, GHCR, QUAY, PLAIN] if name == "_default" else [name]:
            asked = f"{host}/v2/org/app/manifests/1?ns={wanted}"
            assert image(settings, asked) == f"{wanted}/org/app:1"
    assert {name: hosts.get("server") for name, hosts in folders.items()} == {
        HUB: "https://registry-1.docker.io",
        GHCR: "https://ghcr.io",
        QUAY: "https://quay.example:5000",  # not an address that only the mirror can reach
        PLAIN: "http://r.example:8080",
        "_default": None,
    }


@pytest.mark.parametrize("client", ["podman", "cri-o", "buildah", "skopeo"])
@pytest.mark.parametrize("url", URLS)
def test_podman_finds_each_upstream_and_goes_there_without_the_mirror(
    settings: Settings, client: str, url: str
) -> None:
    [(path, text)] = files(client, url, settings).items()
    assert path == "registries.conf"
    registries = {each["prefix"]: each for each in tomllib.loads(text)["registry"]}
    assert registries.keys() == {HUB, GHCR, QUAY, PLAIN}
    scheme = URL(url).scheme
    for name, registry in registries.items():
        assert registry["location"] == name
        assert registry.get("insecure", False) == (name == PLAIN)
        [mirror] = registry["mirror"]
        assert mirror.get("insecure", False) == (scheme == "http")
        host, slash, path = mirror["location"].partition("/")
        assert ":" not in path  # a name of an image has no colon here
        asked = f"{scheme}://{host}/v2/{path}{slash}org/app/manifests/1"
        assert image(settings, asked) == f"{name}/org/app:1"


def test_podman_is_told_no_upstream_that_it_cannot_ask() -> None:
    settings = load({"upstreams": {QUAY: {"url": "https://quay.example:5000"}}})
    [text] = files("podman", URLS[0], settings).values()
    assert [each["prefix"] for each in tomllib.loads(text)["registry"]] == [HUB]
    assert f"# {QUAY}" in text
    assert "hosts" in text
    default = settings.model_copy(update={"default_upstream": QUAY})
    [text] = files("podman", URLS[0], default).values()
    assert {each["prefix"] for each in tomllib.loads(text)["registry"]} == {HUB, QUAY}


@pytest.mark.parametrize("url", URLS)
def test_buildkit_finds_each_upstream(settings: Settings, url: str) -> None:
    [(path, text)] = files("buildkit", url, settings).items()
    assert path == "buildkitd.toml"
    registries: dict[str, Any] = tomllib.loads(text)["registry"]
    for name in (HUB, GHCR, QUAY, PLAIN):
        [mirror] = registries[name]["mirrors"]
        scheme = "http" if registries.get(mirror, {}).get("http") else "https"
        assert f"{scheme}://{mirror}" == url
        asked = f"{url}/v2/org/app/manifests/1?ns={name}"
        assert image(settings, asked) == f"{name}/org/app:1"
        assert registries[name].get("http", False) == (name == PLAIN)


@pytest.mark.parametrize("url", URLS)
def test_k3s_finds_each_upstream(settings: Settings, url: str) -> None:
    [(path, text)] = files("k3s", url, settings).items()
    assert path == "registries.yaml"
    assert yaml.safe_load(text) == {
        "mirrors": {name: {"endpoint": [url]} for name in (HUB, GHCR, QUAY)}
        | {PLAIN: {"endpoint": [url, f"http://{PLAIN}"]}}
    }


@pytest.mark.parametrize(
    ("name", "url", "itself"),
    [
        ("a.io", "http://a.io", "http://a.io"),
        ("a.io", "HTTP://A.io:80/", "http://a.io"),
        ("a.io:80", "http://a.io", "http://a.io:80"),
        ("a.io:5000", "http://a.io:5000/harbor", "http://a.io:5000"),
        ("[::1]:5000", "http://[::1]:5000", "http://[::1]:5000"),
        ("a.io:443", "https://a.io", "https://a.io:443"),
        ("a.io", "http://a.io:5000", "https://a.io"),  # possibly another registry
        ("a.io", "http://inside.io", "https://a.io"),
    ],
)
def test_the_registry_itself_is_asked_as_it_would_be_without_the_mirror(
    name: str, url: str, itself: str
) -> None:
    settings = load({"upstreams": {name: {"url": url}}})
    plain = itself.startswith("http:")
    assert hosts_of(files("containerd", URLS[0], settings))[name]["server"] == itself
    buildkit = tomllib.loads(files("buildkit", URLS[0], settings)["buildkitd.toml"])
    assert buildkit["registry"][name].get("http", False) == plain
    k3s = yaml.safe_load(files("k3s", URLS[0], settings)["registries.yaml"])
    assert k3s["mirrors"][name]["endpoint"] == [URLS[0], *([itself] if plain else [])]


# The closed form


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(("client", "folder"), [("containerd", ""), ("docker", "certs.d")])
def test_a_closed_hosts_file_has_the_mirror_alone(
    settings: Settings, client: str, folder: str, url: str
) -> None:
    told = files(client, url, settings, only=True)
    hosts = hosts_of(told, folder)
    assert hosts.keys() == {HUB, GHCR, QUAY, PLAIN, "_default"}
    for host in hosts.values():
        assert host.pop("host") == {url: {"capabilities": ["pull", "resolve"]}}
        assert host == {"server": url, "capabilities": ["push"]}  # the registry is not asked twice
    assert len(told) == len(hosts)  # the key of daemon.json has no closed form


@pytest.mark.parametrize("client", ["podman", "cri-o", "buildah", "skopeo"])
@pytest.mark.parametrize("url", URLS)
def test_a_closed_registries_conf_has_the_mirror_alone(
    settings: Settings, client: str, url: str
) -> None:
    [text] = files(client, url, settings, only=True).values()
    registries = {each.pop("prefix"): each for each in tomllib.loads(text)["registry"]}
    scheme = URL(url).scheme
    for name in (HUB, GHCR, QUAY, PLAIN):
        registry = registries[name]
        host, slash, path = registry.pop("location").partition("/")
        asked = f"{scheme}://{host}/v2/{path}{slash}org/app/manifests/1"
        assert image(settings, asked) == f"{name}/org/app:1"
        assert registry == ({"insecure": True} if scheme == "http" else {})


def test_k3s_is_closed_for_every_registry(settings: Settings) -> None:
    told = files("k3s", URLS[0], settings, only=True)
    closed = yaml.safe_load(told["config.yaml.d/mirror-only.yaml"])
    assert closed == {"disable-default-registry-endpoint": True}
    mirrors = yaml.safe_load(told["registries.yaml"])["mirrors"]
    assert mirrors == {name: {"endpoint": [URLS[0]]} for name in (HUB, GHCR, QUAY, PLAIN, "*")}


def test_a_client_that_cannot_be_closed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BuildKit never can be, and podman cannot if a path cannot name an upstream."""
    config = tmp_path / "other.toml"
    config.write_text(f'upstreams."{QUAY}" = {{ url = "https://{QUAY}" }}\n')
    for client, named in (("buildkit", "docker --only"), ("podman", QUAY)):
        command = ["client-config", client, "--only", "--config", str(config), "--url", URLS[0]]
        assert main([*command, "--output", str(tmp_path / "etc")]) == 2
        said = capsys.readouterr().err
        assert said.startswith("mirror: --only: ")
        assert named in said
    assert not (tmp_path / "etc").exists()


# The mirror's own CA

CA = trustme.CA().cert_pem.bytes().decode()
SAFE = "https://mirror.example:5000"
PLACES = {
    "docker": ["certs.d/mirror.example:5000/ca.crt"],
    "containerd": ["mirror-ca.crt"],
    "podman": [f"certs.d/{host}/ca.crt" for host in ("mirror.example:5000", "mirror.example:5001")],
    "buildkit": ["mirror-ca.crt"],
    "k3s": ["mirror-ca.crt"],
}


@pytest.mark.parametrize("client", PLACES)
def test_a_client_gets_the_ca_where_it_looks_for_it(settings: Settings, client: str) -> None:
    without, told = files(client, SAFE, settings), files(client, SAFE, settings, CA)
    added = told.keys() - without.keys()
    assert added >= set(PLACES[client])
    assert {told[path] for path in added} == {CA}


@pytest.mark.parametrize("client", ["containerd", "docker"])
@pytest.mark.parametrize("only", [False, True], ids=["open", "only"])
def test_a_hosts_file_names_the_ca(settings: Settings, client: str, only: bool) -> None:
    told = files(client, SAFE, settings, CA, only=only)
    for path in (path for path in told if path.endswith("hosts.toml")):
        hosts = tomllib.loads(told[path])
        for host in [hosts, *hosts["host"].values()] if only else hosts["host"].values():
            assert told[os.path.normpath(Path(path).parent / host["ca"])] == CA


def test_clients_that_look_nowhere_are_told_where_the_ca_is(settings: Settings) -> None:
    buildkit = tomllib.loads(files("buildkit", SAFE, settings, CA)["buildkitd.toml"])
    assert buildkit["registry"]["mirror.example:5000"]["ca"] == ["/etc/buildkit/mirror-ca.crt"]
    k3s = yaml.safe_load(files("k3s", SAFE, settings, CA)["registries.yaml"])
    assert k3s["configs"] == {
        "mirror.example:5000": {"tls": {"ca_file": "/etc/rancher/k3s/mirror-ca.crt"}}
    }


@pytest.mark.parametrize(("client", "folder"), [("containerd", ""), ("docker", "certs.d/")])
@pytest.mark.parametrize("only", [False, True], ids=["open", "only"])
def test_a_registry_with_a_ca_of_its_own_is_trusted_still(
    tmp_path: Path, client: str, folder: str, only: bool
) -> None:
    """No client looks for a `ca.crt` in a folder with a `hosts.toml`."""
    (tmp_path / "ca.pem").write_text(CA)
    config, etc = tmp_path / "mirror.toml", tmp_path / "etc"
    told = {"quay.example:5000": "https://quay.example:5000", GHCR: "https://inside.example"}
    config.write_text(
        "".join(
            f'upstreams."{name}" = {{ url = "{url}", ca_file = "{tmp_path}/ca.pem" }}\n'
            for name, url in told.items()
        )
    )
    command = ["client-config", client, "--config", str(config), "--output", str(etc)]
    assert main(command + ["--only"] * only) == 0
    found = written(etc)
    for name in (HUB, GHCR, "quay.example:5000"):
        hosts = tomllib.loads(found[f"{folder}{name}/hosts.toml"])
        own = found.get(f"{folder}{name}/{hosts.get('ca')}")
        assert own == (CA if name == "quay.example:5000" and not only else None)
    (tmp_path / "ca.pem").write_text("nothing")
    assert main([*command, "--force"]) == 2


def test_a_file_that_is_no_ca_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing"):
        assert main(["client-config", "k3s", "--ca", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert f"--ca is '{tmp_path / name}'" in said


# The command


def written(folder: Path) -> dict[str, str]:
    """Return the files of a folder with their content."""
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_the_files_are_written_for_the_configured_upstreams(
    settings: Settings, tmp_path: Path, client: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["client-config", client, "--config", str(tmp_path / "mirror.toml")]
    folder = tmp_path / "etc" / "client"
    assert main([*command, "--output", str(folder)]) == 0
    assert written(folder) == files(client, "http://10.0.0.9:5000", settings)
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == sorted(str(folder / path) for path in written(folder))
    assert main([*command, "--url", "https://m.example/"]) == 0
    printed = capsys.readouterr().out
    for path, text in files(client, "https://m.example", settings).items():
        assert text in printed
        assert (path in printed) == (client in ("containerd", "docker"))


def test_no_foreign_file_is_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "docker.io" / "hosts.toml"
    place.parent.mkdir()
    place.write_text("# mine")
    command = ["client-config", "containerd", "--output", str(tmp_path)]
    before = written(tmp_path)
    assert main(command) == 2
    said = capsys.readouterr()
    assert str(place) in said.err
    assert "--force" in said.err
    assert (written(tmp_path), said.out) == (before, "")
    assert main([*command, "--force"]) == 0
    assert "mine" not in place.read_text()
    assert main(command) == 0  # a file with the same content is the mirror's


def test_a_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mirror.toml" / "docker"
    assert main(["client-config", "docker", "--output", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["mirror.example", "ftp://m", "http://m/path", "http://u:p@m", "http://m?x", "http://"]
)
def test_an_address_that_no_client_can_use_is_refused(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["client-config", "docker", "--url", url])
    assert ended.value.code == 2
    assert "https://host[:port]" in capsys.readouterr().err


def test_a_port_that_is_chosen_later_wants_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client-config", "docker", "--listen", "127.0.0.1:0"]) == 2
    assert "--url" in capsys.readouterr().err
    assert main(["client-config", "docker", "--listen", "127.0.0.1:0", "--url", URLS[0]]) == 0


async def test_the_greeting_says_what_dockerd_is_to_be_told(tmp_path: Path) -> None:
    flags = ("--upstream", "ghcr.io=http://127.0.0.1:1")
    async with serving(tmp_path / "data", *flags) as mirror:
        address = await mirror.address()
        told = json.dumps({"registry-mirrors": [address]})
        assert f"in /etc/docker/daemon.json, then reload Docker:\n  {told}" in mirror.out
    async with serving(tmp_path / "data", *flags, "--default-upstream", "ghcr.io") as mirror:
        await mirror.says("mirror client-config")
        assert "registry-mirrors" not in mirror.out
    everywhere = ("--listen", "0.0.0.0:5000")
    async with launched("client-config", "docker", *everywhere, command=MODULE) as command:
        ended = await command.ended()
    lines = ended.out.splitlines()
    [mirror_url] = json.loads(lines[lines.index("# daemon.json") + 1])["registry-mirrors"]
    assert URL(mirror_url).host not in ("0.0.0.0", "127.0.0.1")


def test_files_are_replaced_whole_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Docker does not start with half a daemon.json."""
    before, elsewhere = '{"debug": true}', tmp_path / "elsewhere.json"
    elsewhere.write_text(before)
    elsewhere.chmod(0o640)
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "daemon.json").symlink_to(elsewhere)
    (etc / "certs.d").write_text("in the way of a folder")
    command = ["client-config", "docker", "--force", "--output", str(etc)]
    assert main(command) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert elsewhere.read_text() == before
    (etc / "certs.d").unlink()
    assert main(command) == 0
    assert json.loads(elsewhere.read_text()) == {"registry-mirrors": ["http://127.0.0.1:5000"]}
    assert (etc / "daemon.json").is_symlink()
    assert elsewhere.stat().st_mode & 0o777 == 0o640
    assert not [*tmp_path.rglob(".*")]
