"""The documentation is true: every key, metric, error and log line in it exists, and none lacks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, SecretStr

import mirror
from mirror.oci.errors import RegistryError
from mirror.settings import Client, Schedule, Settings, Upstream, load
from tests.modern.build import MODULES
from tests.standin import Hub, Image
from tests.support.mirror import Mirror

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "deploy" / "mirror.toml"
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text()
CLIENTS = (PROJECT / "docs" / "clients.md").read_text()
METRICS = (PROJECT / "docs" / "metrics.md").read_text()
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text()
SECURITY = (PROJECT / "docs" / "security.md").read_text()
STATE = "/var/lib/mirror"  # where an installed mirror keeps its data


def section(text: str, heading: str, marks: str = "##") -> str:
    """Return the text below a heading."""
    below = text.partition(f"\n{marks} {heading}\n")[2]
    return re.split(rf"^(?:##|{marks}) ", below, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables, without their heads."""
    bodies = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)+)", text, flags=re.MULTILINE)
    lines = [line for body in bodies for line in body.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def plain(cell: str) -> str:
    """Return a cell's text, without the backquotes around it."""
    return cell.strip("`")


def code(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


# Configuration


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Keys", Settings),
        ("Upstreams", Upstream),
        ("Clients", Client),
        ("Schedules", Schedule),
    ],
)
def test_every_key_is_documented_with_its_default(heading: str, model: type[BaseModel]) -> None:
    table = {plain(row[0]): plain(row[1]) for row in rows(section(CONFIGURATION, heading))}
    assert table.keys() == model.model_fields.keys()
    required = "upstreams" if model is Settings else "when" if model is Schedule else "url"
    table.pop(required, None)
    for key, default in table.items():
        assert documented_default(key, default) == real_default(model, key), key


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("Keys", {"shares", "anonymous", "client_rate"}),
        ("Upstreams", {"allow", "deny", "private", "reserve"}),
        ("Clients", {"allow"}),
    ],
)
def test_a_key_that_refuses_says_what_that_is_worth(heading: str, keys: set[str]) -> None:
    """Clients go on to the registry after a refusal: tests/real/test_only.py."""
    table = {plain(row[0]): row[-1] for row in rows(section(CONFIGURATION, heading))}
    assert {key for key, text in table.items() if "(#what-a-refusal-is-worth)" in text} == keys
    assert "--only" in section(CONFIGURATION, "What a refusal is worth")


def test_the_clients_seen_to_work_are_those_of_the_modern_tests() -> None:
    seen = [
        f"{what} {version}"
        for what, version, by in rows(section(CLIENTS, "Seen to work"))
        if "test-modern" in by
    ]
    for module in MODULES:
        words = [row for row in seen if module.version in row]
        assert any(name in re.findall(r"\w+", " ".join(words)) for name in module.programs)
    versions = {version for row in seen for version in re.findall(r"\bv\d\S+", row)}
    assert versions == {module.version for module in MODULES}


def documented_default(key: str, text: str) -> object:
    """Read a default as the mirror reads it from a file."""
    if text == "none":
        return None
    value = tomllib.loads(f"value = {text}")["value"]
    if key in Settings.model_fields:
        return getattr(load({key: value}), key)
    return tuple(value) if isinstance(value, list) else value


def real_default(model: type[BaseModel], key: str) -> object:
    """Return the default that a model has."""
    default = model.model_fields[key].get_default(call_default_factory=True)
    return default.get_secret_value() if isinstance(default, SecretStr) else default


def test_the_blocks_of_the_configuration_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text("\n".join(code(CONFIGURATION, "toml")))
    settings = load(file=tmp_path / "mirror.toml")
    assert settings.upstreams["docker.io"].username == "your-account"
    assert settings.upstreams["ghcr.io"].url == "https://ghcr.io"
    assert settings.shares.keys() == {"10.0.5.0/24", "10.0.9.9/32", "*"}


def test_the_sample_configuration_changes_nothing_but_where_the_data_is() -> None:
    assert load(file=SAMPLE).model_dump() == load({"data_dir": STATE}).model_dump()


def test_the_data_is_where_the_unit_has_its_state_directory() -> None:
    unit = (PROJECT / "deploy" / "mirror.service").read_text()
    [name] = re.findall(r"^StateDirectory=(.*)$", unit, flags=re.MULTILINE)
    assert f"/var/lib/{name}" == STATE


def test_the_sample_configuration_has_every_key_at_its_default(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace(f'data_dir = "{STATE}"', 'data_dir = "data"')
    given = tomllib.loads(text)
    files = {
        "tls_cert",
        "tls_key",
        "client_ca",
        "htpasswd",
        "listen_metrics",
        "admin_listen",
    }  # these have no value as default
    without = {"password_file", "docker_config", "pull_limit", "proxy"}
    without |= {"ca_file", "client_cert", "client_key"}  # neither have these
    assert given.keys() == Settings.model_fields.keys() - files
    assert given["upstreams"].keys() == {"docker.io"}
    assert given["upstreams"]["docker.io"].keys() == Upstream.model_fields.keys() - without
    (tmp_path / "mirror.toml").write_text(text)
    assert load(file=tmp_path / "mirror.toml").model_dump() == load().model_dump()
    assert all(f"# {key} = " in text for key in without | files)


def test_the_sample_configuration_describes_each_key_as_the_settings_do() -> None:
    text = " ".join(SAMPLE.read_text().replace("#", "").split())
    for key, field in Settings.model_fields.items():
        assert field.description
        assert field.description.rstrip(".") in text.replace(", 1 to 100;", ";"), key


# Metrics


def documented_metrics() -> dict[str, tuple[str, set[str]]]:
    """Return name, type and labels of every metric that is documented."""
    tables = [row for row in rows(METRICS) if len(row) == 4]
    return {
        plain(name): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in tables
    }


def exposed(families: Iterable[Metric]) -> dict[str, tuple[str, set[str]]]:
    """Return name, type and labels of every metric that is exposed, `_created` aside."""
    found = {}
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    return {name: what for name, what in found.items() if not name.endswith("_created")}


async def test_every_metric_is_documented_and_there_is_no_other(
    hub: Hub, mirror: Mirror, image: Image
) -> None:
    hub.terms.limit = 10  # so that upstream tells the remaining pulls
    await mirror.pull("library/nginx", "latest", image)
    text = (await mirror.ask("/metrics")).body.decode()
    assert documented_metrics() == exposed(text_string_to_metric_families(text))


def test_every_metric_that_is_asked_for_exists() -> None:
    known = set(documented_metrics()) | {"mirror_request_seconds_bucket", "up"}
    for question in code(METRICS, "promql"):
        assert set(re.findall(r"\b(?:mirror|process)_\w+", question)) <= known


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
def test_the_questions_can_be_asked(tmp_path: Path) -> None:
    questions = code(METRICS, "promql")
    assert len(questions) > 10
    rules = "".join(
        f"- record: q{number}\n  expr: |\n" + "".join(f"    {line}\n" for line in text.splitlines())
        for number, text in enumerate(questions)
    )
    (tmp_path / "rules.yml").write_text(f"groups:\n- name: questions\n  rules:\n{indented(rules)}")
    command = ["promtool", "check", "rules", str(tmp_path / "rules.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def indented(text: str) -> str:
    """Move text to the right."""
    return "".join(f"  {line}\n" for line in text.splitlines())


# Operations


def test_every_error_is_explained_and_there_is_no_other() -> None:
    told = section(OPERATIONS, "What clients are told").partition("\n### ")[0]
    table = {(int(row[0]), plain(row[1])) for row in rows(told)}
    assert table == {(error.status, error.code) for error in errors(RegistryError)}


def errors(kind: type[RegistryError]) -> Iterator[type[RegistryError]]:
    """Return an error class and all classes derived from it."""
    yield kind
    for derived in kind.__subclasses__():
        yield from errors(derived)


@pytest.mark.parametrize("heading", ["Watch it", "When it does not start", "Reasons for a 429"])
def test_the_quoted_lines_are_in_the_code(heading: str) -> None:
    source = "\n".join(file.read_text() for file in (PROJECT / "mirror").rglob("*.py"))
    marks = "###" if f"\n### {heading}\n" in OPERATIONS else "##"
    texts = [plain(row[0]) for row in rows(section(OPERATIONS, heading, marks))]
    assert len(texts) > 5
    for text in texts:
        name, equals, value = text.partition("=")
        assert (f"{name}=" in source and value) if equals else text in source, text


def test_the_block_for_the_engine_can_be_parsed() -> None:
    [engine] = [json.loads(block) for block in code(OPERATIONS, "json")]
    assert engine == {"registry-mirrors": ["http://mirror.example:5000"]}


PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Return the targets for links in a page: its headings, in their form for addresses."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_links_lead_somewhere() -> None:
    found = 0
    for page in PAGES:
        for file, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text()):
            found += 1
            target = page.parent / file if file else page
            assert target.exists(), f"{page.name}: {file}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {file}#{anchor}"
    assert found > 20


# Security


def in_file(file: Path) -> set[str]:
    """Return the names of a file's tests."""
    return set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), flags=re.MULTILINE))


def test_every_promise_of_security_is_held_by_a_test_that_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", SECURITY)
    assert len(named) > 50
    for file, name in named:
        assert name in in_file(PROJECT / "tests" / file), f"{file}::{name}"


def test_every_attack_that_is_tried_is_named() -> None:
    named = set(re.findall(r"`attacks/(\w+\.py)::(test_\w+)`", SECURITY))
    files = (PROJECT / "tests" / "attacks").glob("test_*.py")
    assert named == {(file.name, name) for file in files for name in in_file(file)}


# Versions


def test_the_newest_version_that_the_changelog_dates_is_this_one() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text()
    dated = re.findall(r"^## \[([^]]+)\] - \d{4}-\d\d-\d\d$", text, flags=re.MULTILINE)
    first = "0.1.0"  # the version before the first release
    assert mirror.__version__ == (dated or [first])[0]


def test_the_documented_tree_is_that_of_the_code() -> None:
    page = (PROJECT / "docs" / "architecture.md").read_text()
    tree = page.partition("\nmirror/\n")[2].partition("\ntests/ ")[0]
    modules = {path.name for path in (PROJECT / "mirror").glob("[!_]*.py")}
    rooms = {path.parent.name for path in (PROJECT / "mirror").glob("*/__init__.py")}
    inner = {path.parent.name for path in (PROJECT / "mirror").glob("*/*/__init__.py")}
    assert set(re.findall(r"\b(\w+\.py)\b", tree)) == modules
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == rooms
    assert set(re.findall(r"^    (\w+)/", tree, re.MULTILINE)) == inner


def test_no_room_has_more_than_a_fifth_of_the_lines() -> None:
    lines = {path: path.read_text().count("\n") for path in (PROJECT / "mirror").rglob("*.py")}
    rooms = Counter[str]()
    for path, count in lines.items():
        rooms[path.relative_to(PROJECT / "mirror").parts[0]] += count
    room, most = rooms.most_common(1)[0]
    assert most <= sum(lines.values()) / 5, room
