"""The plain manifests are valid, and let one mirror run on its data, without rights."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import mirror
from mirror.settings import load

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "deploy" / "kubernetes" / "mirror.yaml"
MANIFESTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all(FILE.read_text())
}
POD = MANIFESTS["StatefulSet"]["spec"]["template"]["spec"]
VALIDATE = shutil.which("kubernetes-validate", path=Path(sys.executable).parent)


@pytest.mark.skipif(VALIDATE is None, reason="a package of the group dev")
@pytest.mark.parametrize("version", ["1.25", "1.34"])
def test_kubernetes_takes_the_manifests(version: str) -> None:
    command = [str(VALIDATE), "--strict", "-k", version, str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_second_mirror_waits_for_the_lock_on_the_data() -> None:
    assert MANIFESTS["StatefulSet"]["spec"]["replicas"] == 1  # it ends before the next starts


def test_a_service_of_the_mirrors_name_sets_no_variables_in_the_pod() -> None:
    assert POD["enableServiceLinks"] is False


def test_the_pod_has_no_rights() -> None:
    [container] = POD["containers"]
    assert POD["securityContext"]["runAsNonRoot"]
    assert (
        f"USER {POD['securityContext']['runAsUser']}:"
        in (PROJECT / "deploy/Dockerfile").read_text()
    )
    assert POD["securityContext"]["fsGroup"] == POD["securityContext"]["runAsGroup"]
    assert POD["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_stop_has_the_time_it_takes_and_a_start_has_five_minutes() -> None:
    told = tomllib.loads(MANIFESTS["ConfigMap"]["data"]["mirror.toml"])
    settings = load(told)
    assert POD["terminationGracePeriodSeconds"] > 2 * settings.shutdown_grace
    [container] = POD["containers"]
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 300


def test_probes_reach_the_mirror_on_any_address_and_with_any_disk() -> None:
    """Probes use no HTTP: with `client_ca` the kubelet would need a certificate."""
    [container] = POD["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["exec"] == {"command": ["mirror", "healthcheck"]}
        assert not container[probe].keys() & {"httpGet", "tcpSocket"}


def test_the_volume_is_larger_than_max_size() -> None:
    told = tomllib.loads(MANIFESTS["ConfigMap"]["data"]["mirror.toml"])
    [claim] = MANIFESTS["StatefulSet"]["spec"]["volumeClaimTemplates"]
    [gibibytes] = re.findall(r"^(\d+)Gi$", claim["spec"]["resources"]["requests"]["storage"])
    assert int(gibibytes) * 1024**3 > load(told).max_size.bytes


def test_chart_and_manifests_are_of_this_version() -> None:
    [container] = POD["containers"]
    chart = yaml.safe_load((PROJECT / "deploy/chart/Chart.yaml").read_text())
    assert container["image"] == f"mirror:{mirror.__version__}", "make version VERSION=..."
    assert chart["version"] == chart["appVersion"] == mirror.__version__, "make version VERSION=..."
