"""The files for deployment fit the mirror: the unit, the image, and their companions."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mirror.settings import PREFIX, Settings, Upstream
from tests.support.command import MODULE, environment, launched
from tests.support.mirror import Mirror

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
UNIT = (DEPLOY / "mirror.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = (DEPLOY / "compose.yaml").read_text()
GRACE = float(str(Settings.model_fields["shutdown_grace"].default))


def directives(name: str) -> list[str]:
    """Return the values of a directive of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT, flags=re.MULTILINE)


def check(*command: str | Path) -> None:
    """Run a program that checks a file; fails unless it finds no fault."""
    checked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not checked.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    here = str(Path(sys.executable).with_name("mirror"))
    unit = tmp_path / "mirror.service"
    unit.write_text(UNIT.replace("/opt/mirror/bin/mirror", here))
    check("systemd-analyze", "verify", unit)
    commented = re.sub(r"^#(?=[A-Z]\w+=)", "", unit.read_text(), flags=re.MULTILINE)
    unit.write_text(commented)
    check("systemd-analyze", "verify", unit)


def test_the_unit_uses_the_features_of_the_mirror() -> None:
    assert directives("Type") == ["notify"]
    assert directives("User") == ["mirror"]
    assert directives("StateDirectory") == ["mirror"]
    assert directives("Environment") == []  # the file names the data folder, and commands read it
    assert float(directives("WatchdogSec")[0]) > 0
    assert directives("RestartPreventExitStatus") == ["2"]
    assert int(directives("LimitNOFILE")[0]) >= 65536
    [command] = directives("ExecStart")
    assert command.endswith("/mirror serve --config /etc/mirror/mirror.toml")
    assert directives("ExecReload") == [command.replace(" serve ", " reload ")]


def test_the_unit_has_the_configuration_checked_without_the_network() -> None:
    """The check's findings are for the journal; they alone would let systemd retry for ever."""
    [before], [command] = directives("ExecStartPre"), directives("ExecStart")
    assert before == "-" + command.replace(" serve ", " check ")


async def test_the_units_first_command_names_every_fault_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text('tag_ttl = "often"\nmax_fetches = 0\n')
    [before] = directives("ExecStartPre")
    words = before.replace("/etc/mirror/mirror.toml", str(file)).split()[1:]
    async with launched(*words) as command:
        ended = await command.ended()
    assert [line.split()[0] for line in ended.out.splitlines()] == ["tag_ttl", "max_fetches"]


def test_the_grace_and_what_comes_behind_it_fit_into_the_time_to_stop() -> None:
    assert float(directives("TimeoutStopSec")[0]) >= GRACE + 10
    [seconds] = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert float(seconds) >= GRACE + 10
    [seconds] = re.findall(r"--stop-timeout (\d+)", (PROJECT / "docs/operations.md").read_text())
    assert float(seconds) >= GRACE + 10


@pytest.mark.parametrize(
    "file",
    sorted(file for file in DEPLOY.rglob("*") if file.is_file() and file.suffix != ".pyc"),
    ids=lambda file: str(file.relative_to(DEPLOY)),
)
def test_the_mirror_reads_every_variable_and_secret(file: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | {"CONFIG", "SECRETS_DIR"}
    # Alerts and panels name metrics, which begin like variables.
    flags = re.NOFLAG if file.name.startswith(("alerts", "dashboard")) else re.IGNORECASE
    for variable in re.findall(rf"\b{PREFIX}\w+", file.read_text(), flags=flags):
        key, *rest = variable.upper().removeprefix(PREFIX).split("__")
        assert key in known
        if key == "UPSTREAMS":
            assert rest[1].lower() in Upstream.model_fields


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_prometheus_understands_its_configuration() -> None:
    check("promtool", "check", "config", DEPLOY / "prometheus.yml")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_alerts_go_off_when_they_should() -> None:
    check("promtool", "test", "rules", DEPLOY / "alerts.test.yml")


def test_every_alert_is_tried_and_asks_for_metrics_that_exist() -> None:
    alerts = (DEPLOY / "alerts.yml").read_text()
    tried = (DEPLOY / "alerts.test.yml").read_text()
    names = re.findall(r"- alert: (\w+)", alerts)
    assert names
    for name in names:
        assert f"alertname: {name}\n        exp_alerts:" in tried, name
    documented = (PROJECT / "docs/metrics.md").read_text()
    for expression in re.findall(r"expr: (.*)", alerts):
        for metric in re.findall(r"\bmirror_\w+", expression):
            assert f"| `{metric}` |" in documented, metric


def test_prometheus_finds_the_mirror_where_it_listens() -> None:
    assert "MIRROR_LISTEN=0.0.0.0:5000" in DOCKERFILE
    assert 'targets: ["mirror:5000"]' in (DEPLOY / "prometheus.yml").read_text()
    for file in ("prometheus.yml", "alerts.yml"):
        assert f"./{file}:/etc/prometheus/{file}:ro" in COMPOSE
    assert re.search(r"^  mirror:$", COMPOSE, flags=re.MULTILINE)


def test_the_image_runs_without_rights() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    [user] = re.findall(r"^USER (\d+):\d+$", last, flags=re.MULTILINE)
    assert int(user) > 0
    assert f"-o {user}" in last
    assert "VOLUME /var/lib/mirror" in last
    for limit in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"):
        assert limit in COMPOSE


def test_a_crash_leaves_no_core_with_logins_in_it() -> None:
    assert directives("LimitCORE") == ["0"]
    assert "core: 0" in COMPOSE
    assert "--ulimit core=0" in (PROJECT / "docs/operations.md").read_text()


def test_the_unit_sees_no_other_users_processes_and_mounts() -> None:
    for name in ("PrivateUsers", "PrivateMounts"):
        assert directives(name)[0] == "yes"
    assert directives("ProcSubset") == ["pid"]


def test_no_port_is_published_beyond_the_host_unless_the_operator_says_so() -> None:
    published = re.findall(r'^ +- "(\S*?)(?::\d+)?:\d+"$', COMPOSE, flags=re.MULTILINE)
    commands = (PROJECT / "docs/operations.md").read_text()
    published += re.findall(r"docker run[^`]*?--publish (\S*?)(?::\d+)?:\d+ ", commands)
    assert published == ["127.0.0.1"] * 3


def test_the_base_image_can_be_named_by_its_digest() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE) == ["${BUILD}", "${BASE}"]
    assert "\nARG BUILD=${BASE}\n" in DOCKERFILE


def test_the_sources_of_the_image_are_not_ignored() -> None:
    sources = re.findall(r"^COPY ([^-]\S*(?: \S+)*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    copied = {name for names in sources for name in names.split()}
    assert copied == {"mirror", "requirements.lock", "deploy/launcher.py", "deploy/mirror.sh"}
    for name in copied:
        assert (PROJECT / name).exists()
    ignore = (PROJECT / ".dockerignore").read_text().splitlines()
    assert ignore.index("*") < min(ignore.index(f"!{name}") for name in copied)


def test_the_image_is_built_from_proven_packages_alone() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "--only-binary :all:" in DOCKERFILE
    lock = (PROJECT / "requirements.lock").read_text()
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in wanted:
        name = re.split(r"[<>=!~ ]", requirement)[0]
        assert re.search(rf"^{name}==\S+ \\$", lock, flags=re.MULTILINE), name


async def test_the_images_health_check_tells_health(mirror: Mirror, tmp_path: Path) -> None:
    [words] = re.findall(r"^ +CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    name, *arguments = json.loads(words)
    assert name == "mirror"
    for folder, healthy in ((mirror.folder.path, True), (tmp_path / "none", False)):
        env = environment({"MIRROR_DATA_DIR": str(folder), "MIRROR_LISTEN": "127.0.0.1:1"})
        process = await asyncio.create_subprocess_exec(
            *MODULE, *arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            assert (await process.wait() == 0) is healthy
