"""The chart, as Helm renders it: strict, valid, and by default equal to the plain manifests."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.modern.build import BIN

from .conftest import PROJECT

CHART = PROJECT / "deploy" / "chart"
NEWEST, OLDEST = "1.34", "1.25"  # versions with schemas in kubernetes-validate
HELM = shutil.which("helm", path=f"{os.environ['PATH']}:{BIN}")
pytestmark = pytest.mark.skipif(HELM is None, reason="`make test-modern` builds helm")
EVERYTHING = {
    "hostPort": "5000",
    "tls.existingSecret": "certificate",
    "existingSecret": "passwords",
    "imagePullSecrets[0].name": "registry",
    "persistence.storageClass": "fast",
    "podLabels.team": "ci",
    "podAnnotations.seen": "yes-by-all",
    "nodeSelector.disk": "fast",
    "priorityClassName": "high",
    "serviceMonitor.enabled": "true",
    "prometheusRule.enabled": "true",
    "networkPolicy.enabled": "true",
    "networkPolicy.from[0]": "10.0.0.0/8",
    "podDisruptionBudget.enabled": "true",
    "service.type": "ClusterIP",
}


def helm(
    *words: str | Path, chart: Path = CHART, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run Helm on a chart."""
    command = [str(HELM), *map(str, words), str(chart), "--kube-version", f"{NEWEST}.0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check)


def rendered(values: dict[str, str], name: str = "mirror", chart: Path = CHART) -> str:
    """Return the manifests."""
    given = [f"--set={key}={value}" for key, value in values.items()]
    return helm("template", *given, name, chart=chart).stdout


def parsed(text: str) -> dict[str, dict[str, Any]]:
    """Return the manifests by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(text) if each}


def documented() -> list[str]:
    """Return the lines of README and operations.md that begin with `helm`."""
    pages = (PROJECT / "README.md", PROJECT / "docs" / "operations.md")
    text = "\n".join(page.read_text() for page in pages)
    found = set(re.findall(r"^helm (.*?)(?: +#.*)?$", text, flags=re.MULTILINE))
    assert found
    return sorted(found)


@pytest.mark.parametrize("line", documented())
def test_it_is_installed_by_the_documented_line_under_documented_names(line: str) -> None:
    """Without a cluster, the lines are only rendered."""
    install, name, chart, *values = line.split()
    assert install == "install"
    manifests = helm("template", name, *values, chart=PROJECT / chart).stdout
    stateful = parsed(manifests)["StatefulSet"]
    [container] = stateful["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example/mirror:")
    operations = (PROJECT / "docs" / "operations.md").read_text()
    assert f"kubectl exec {stateful['metadata']['name']}-0 -- mirror du" in operations


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_probes_do_not_depend_on_the_address(values: dict[str, str]) -> None:
    pod = parsed(rendered(values))["StatefulSet"]["spec"]["template"]["spec"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod["containers"][0][probe]["exec"] == {"command": ["mirror", "healthcheck"]}


def test_helm_finds_no_fault() -> None:
    helm("lint", "--strict")


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_the_rendered_manifests_are_valid(
    values: dict[str, str], version: str, tmp_path: Path
) -> None:
    file = tmp_path / "manifests.yaml"
    file.write_text(rendered(values))
    validate = Path(sys.executable).with_name("kubernetes-validate")
    command: list[str | Path] = [validate, "--strict", "-k", version, file]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_plain_manifests_equal_the_default_rendering() -> None:
    ours = parsed((PROJECT / "deploy/kubernetes/mirror.yaml").read_text())
    helms = parsed(rendered({}))
    for manifest in helms.values():
        labels = manifest["metadata"]["labels"]
        del labels["helm.sh/chart"], labels["app.kubernetes.io/managed-by"]
    del helms["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
    assert ours == helms


def test_a_change_of_the_configuration_starts_the_pod_anew() -> None:
    def checksum(values: dict[str, str]) -> str:
        pod = parsed(rendered(values))["StatefulSet"]["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({})
    assert checksum({}) != checksum({"config": "tag_ttl = 30"})


def test_the_pod_has_the_time_that_its_grace_takes() -> None:
    pod = parsed(rendered({"shutdownGrace": "60"}))["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 2 * 60


def test_alerts_are_those_of_the_project() -> None:
    rule = parsed(rendered(EVERYTHING))["PrometheusRule"]
    assert rule["spec"] == yaml.safe_load((PROJECT / "deploy/alerts.yml").read_text())


@pytest.mark.parametrize("misspelt", ["maxsize=1GiB", "service.nodeport=30001", "tls.secret=t"])
def test_a_misspelt_value_is_refused(misspelt: str) -> None:
    refused = helm("template", f"--set={misspelt}", "mirror", check=False)
    assert refused.returncode != 0
    assert "not allowed" in refused.stderr


def notes(values: dict[str, str], folder: Path) -> str:
    """Return the notes that Helm prints after the installation."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    (chart / "templates/NOTES.txt").rename(chart / "NOTES.txt")
    told = 'kind: Notes\ntext: {{ tpl (.Files.Get "NOTES.txt") . | toJson }}\n'
    (chart / "templates/notes.yaml").write_text(told)
    return str(parsed(rendered(values, chart=chart))["Notes"]["text"])


def test_notes_for_nodes_equal_the_output_of_client_config(tmp_path: Path) -> None:
    told = notes({}, tmp_path)
    [block] = re.findall(r"^  (server = .*\n.*\n.*)$", told, flags=re.MULTILINE)
    [command] = re.findall(r"mirror (client-config containerd --url \S+)", told)
    ours = [Path(sys.executable).with_name("mirror"), *command.split()]
    subprocess.run([*ours, "--output", tmp_path / "certs.d"], check=True, timeout=20)
    written = (tmp_path / "certs.d/docker.io/hosts.toml").read_text()
    assert tomllib.loads(block) == tomllib.loads(written)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "any node, port 30500"),
        ({"hostPort": "5000"}, "the node that the pod runs on, port 5000"),
        (
            {"service.type": "ClusterIP"},
            "http://mirror.default:5000. For nodes, give it a NodePort",
        ),
        ({"service.type": "LoadBalancer"}, "the load balancer, port 5000"),
        ({"tls.existingSecret": "t"}, "https://ADDRESS:30500"),
        ({"tls.existingSecret": "t"}, "add\n`--ca /etc/mirror-tls/ca.crt`"),
    ],
    ids=json.dumps,
)
def test_notes_name_the_address_that_nodes_reach(
    values: dict[str, str], words: str, tmp_path: Path
) -> None:
    assert words in notes(values, tmp_path)
