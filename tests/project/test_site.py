"""The documentation as a site: complete, whole, and without anything from outside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
SPHINX = PROJECT / ".docs" / "bin" / "sphinx-build"
MAKEFILE = (PROJECT / "Makefile").read_text()
INDEX = (DOCS / "index.md").read_text()
# The attributes by which a page loads something; `href` does so in a `link` alone.
_LOADS = {"src", "srcset", "data", "poster", "action"}


def listed() -> list[str]:
    """Return the pages of the site, in the order of its menu."""
    trees = re.findall(
        r"^```\{toctree\}\n((?::[^\n]*\n)*)\n(.*?)^```$", INDEX, re.MULTILINE | re.DOTALL
    )
    return [name for _, names in trees for name in names.split()]


def test_each_page_is_in_the_menu_once() -> None:
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
    assert sorted(listed()) == sorted(pages - {"index"})


def test_each_page_can_be_reached_without_the_menu() -> None:
    linked = {link for _, link in re.findall(r"\[([^\]]+)\]\(([^)#:]+)\.md\)", INDEX)}
    assert set(listed()) == linked


_RECIPE = r"python (docs/\S+(?: \w+)?) >docs/made && mv docs/made (\S+)$"
MADE = re.findall(_RECIPE, MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize(("script", "page"), MADE)
def test_each_page_that_is_made_from_the_code_is_up_to_date(script: str, page: str) -> None:
    command = [sys.executable, *script.split()]
    made = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stdout == (PROJECT / page).read_text(), "run `make pages`"


def test_the_commands_and_the_registry_have_pages_that_are_made() -> None:
    assert {page for _, page in MADE} >= {"docs/commands.md", "docs/registry-api.md"}


def test_the_site_has_a_lock_of_its_own_with_hashes() -> None:
    lock = (PROJECT / "requirements-docs.lock").read_text()
    packages = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)[1:]
    assert {"furo", "myst-parser", "sphinx"} <= {each.partition("==")[0] for each in packages}
    assert all("--hash=sha256:" in each for each in packages)


class Loaded(HTMLParser):
    """The addresses that a page loads by itself, and its inline styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads."""
        loads = _LOADS | ({"href"} if tag in ("link", "use", "image") else set())
        self.found += [value or "" for name, value in attrs if name in loads]
        self.found += [
            address for name, value in attrs if name == "style" for address in urls(value)
        ]


def urls(style: str | None) -> list[str]:
    """Return the addresses in a style."""
    return re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", style or "")


def loaded(site: Path) -> Iterator[tuple[Path, str]]:
    """Yield what the pages and styles of a site load, each with its file."""
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text())
        yield from ((page, address) for address in parser.found)
    for style in site.rglob("*.css"):
        yield from ((style, address) for address in urls(style.read_text()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as by `make docs`; without a network where that can be taken away."""
    if not SPHINX.exists():
        pytest.skip("make docs")
    folder = tmp_path_factory.mktemp("site")
    alone = ["unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []
    [recipe] = re.findall(r"/sphinx-build (.*) docs build/docs$", MAKEFILE, flags=re.MULTILINE)
    command = [*alone, SPHINX, *recipe.split(), DOCS, folder]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "-W" in recipe
    return folder


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    found = list(loaded(site))
    assert len(found) > 100
    outside = [each for each in found if re.match(r"(?:\w+:)?//", each[1])]
    assert not outside


def test_each_file_that_the_site_loads_is_in_it(site: Path) -> None:
    for file, address in loaded(site):
        place = re.split("[?#]", address)[0]
        assert place.startswith("data:") or (file.parent / place).exists(), f"{file}: {address}"


def test_each_page_of_the_documentation_is_a_page_of_the_site(site: Path) -> None:
    assert all((site / f"{name}.html").exists() for name in [*listed(), "index"])
