"""The documented commands, targets and TOML files work as they are written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirror.cli.parser import COMMANDS, parser
from mirror.settings import load

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
MAKEFILE = (PROJECT / "Makefile").read_text()
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    \S.*\n(?:^      .*\n)*)+", flags=re.MULTILINE)
_PLACEHOLDERS = {"CLIENT": "containerd", "…": ""}
_IN_A_CONTAINER = r"(?:(?:docker|kubectl) exec mirror\S* (?:-- )?)?"


def typed() -> Iterator[tuple[str, str]]:
    """Yield each line for a terminal, with its page: from blocks, and from within the text."""
    for page in PAGES:
        text = page.read_text()
        blocks = [block for language, block in _FENCED.findall(text) if language in ("", "sh")]
        prose = _FENCED.sub("", text)
        for block in (*blocks, *_INDENTED.findall(prose)):
            for line in block.replace("\\\n", " ").splitlines():
                yield page.name, re.split(" +#| > ", line)[0].strip()
        for line in re.findall(r"`([^`\n]+)`", _INDENTED.sub("", prose)):
            yield page.name, line.partition(" > ")[0]


def ours() -> set[str]:
    """Return the words behind each `mirror` that is a command, also within a container."""
    found = (re.search(rf"^{_IN_A_CONTAINER}mirror ([a-z].*)$", line) for _, line in typed())
    return {each[1] for each in found if each}


@pytest.mark.parametrize("line", sorted(ours()))
def test_each_command_line_is_taken(line: str) -> None:
    for placeholder, example in _PLACEHOLDERS.items():
        line = line.replace(placeholder, example)
    command, *words = shlex.split(line)
    assert command in COMMANDS
    if words and words != ["--help"]:  # without words, the command is only named
        parser([command, *words]).parse_args([command, *words])


def test_each_command_is_documented() -> None:
    documented = {line.split()[0] for line in ours()}
    assert documented >= {*COMMANDS}


def test_each_target_exists_and_is_explained() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert explained == set(phony.split())
    named = {
        (page, target)
        for page, line in typed()
        for target in re.findall(r"^(?:sudo )?make ([a-z-]+)", line)
    }
    assert ("README.md", "run") in named
    assert {target for _, target in named} <= explained


def test_each_file_that_is_installed_exists() -> None:
    """Files of the checkout are named by their path in it."""
    named = {
        word
        for _, line in typed()
        for word in re.findall(r"(?<![\w/.])(?:deploy|docs|bench)/[\w./-]+", line)
    }
    assert "deploy/compose.yaml" in named
    assert "deploy/Dockerfile" in named
    assert not {word for word in named if not (PROJECT / word).exists()}


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_each_configuration_that_is_shown_can_be_used(page: str, tmp_path: Path) -> None:
    blocks = _FENCED.findall((PROJECT / page).read_text())
    [shown] = [block for language, block in blocks if language == "toml"]
    (tmp_path / "mirror.toml").write_text(shown)
    hub = load(file=tmp_path / "mirror.toml").upstreams["docker.io"]
    assert hub.username
    assert str(hub.password_file).startswith("/etc/mirror/")


@pytest.mark.parametrize(
    "page", sorted((PROJECT / "docs" / "howto").glob("*.md")), ids=lambda page: page.stem
)
def test_each_configuration_of_a_guide_can_be_used(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(code(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        load(file=file)


def test_the_guide_to_kubernetes_sets_values_that_exist() -> None:
    [given] = map(yaml.safe_load, code(PROJECT / "docs" / "howto" / "kubernetes.md", "yaml"))
    known = yaml.safe_load((PROJECT / "deploy" / "chart" / "values.yaml").read_text())
    assert leaves(given) <= leaves(known)


def code(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in a language."""
    return [block for each, block in _FENCED.findall(page.read_text()) if each == language]


def leaves(values: dict[str, Any]) -> set[tuple[str, ...]]:
    """Return the paths of all keys that have no keys below them."""
    found = set()
    for key, value in values.items():
        below = leaves(value) if isinstance(value, dict) else set()
        found |= {(key, *path) for path in below} or {(key,)}
    return found
