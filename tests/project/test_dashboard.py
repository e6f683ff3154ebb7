"""Grafana's dashboard and the alerts: each asks for metrics that exist, and says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .test_docs import anchors, documented_metrics

PROJECT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((PROJECT / "deploy" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((PROJECT / "deploy" / "alerts.yml").read_text())
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
_VARIABLES = {"$__rate_interval": "5m", "$__range": "1d", "$instance": ".*", "$job": ".*"}
_METRIC = re.compile(r"\b(?:mirror|process|python)_\w+")


def expressions() -> list[str]:
    """Return the expressions of all panels, with values in place of Grafana's variables."""
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for variable, value in _VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def measured(expression: str) -> set[str]:
    """Return the metrics of an expression, without the endings of histograms."""
    return {re.sub(r"_bucket$", "", name) for name in _METRIC.findall(expression)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_prometheus_understands_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions())]
    assert len(rules) > 30
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_asks_for_documented_metrics_with_their_labels() -> None:
    metrics = documented_metrics()
    for panel in PANELS:
        for target in panel["targets"]:
            for name in measured(target["expr"]):
                assert name in metrics, name
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            known = {label for name in measured(target["expr"]) for label in metrics[name][1]}
            assert shown <= known | {"instance"}, panel["title"]


def test_no_variable_of_the_dashboard_is_left_out() -> None:
    assert not [each for each in expressions() if "$" in each]
    names = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "job", "instance"}


def test_panels_are_of_plain_kinds_and_do_not_overlap() -> None:
    assert {panel["type"] for panel in PANELS} <= {"stat", "gauge", "table", "timeseries"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [place for panel in DASHBOARD["panels"] for place in cells(panel["gridPos"])]
    assert len(places) == len(set(places))


def cells(place: dict[str, int]) -> list[tuple[int, int]]:
    """Return the cells of the grid that a panel takes."""
    columns = range(place["x"], place["x"] + place["w"])
    assert columns.stop <= 24
    return [(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])]


def test_each_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_each_alert_leads_to_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        assert anchor in anchors(PROJECT / page)


def test_each_section_on_alerts_is_of_an_alert_that_exists() -> None:
    page = (PROJECT / "docs" / "howto" / "alerts.md").read_text()
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    alerts = [(rule["alert"], rule["labels"]["severity"]) for rule in rules]
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE) == [name for name, _ in alerts]
    table = re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", page, flags=re.MULTILINE)
    assert table == alerts
