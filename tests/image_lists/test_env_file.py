"""A compose file takes variables from the environment, and from the `.env` beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.image_lists.files import read_file
from mirror.image_lists.found import ImageList, UnreadableList


class Folder:
    """A folder with a compose file of one service."""

    def __init__(self, path: Path) -> None:
        self.env = path / ".env"
        self._compose = path / "compose.yaml"

    def read(self, image: str, **environment: str) -> ImageList:
        """Read the compose file, its service of an image."""
        self._compose.write_text(f"services:\n  web:\n    image: {image}\n")
        return read_file(self._compose, environment)

    def image(self, image: str, **environment: str) -> str:
        """Return the image that is found."""
        [found] = self.read(image, **environment)
        return str(found.name).removeprefix("docker.io/library/")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        ("TAG=1.25", "1.25"),
        ("export TAG='1.25'  # the stable one", "1.25"),
        ('TAG="1.25"\r', "1.25"),
        ("MAJOR=1\nTAG=${MAJOR}.25", "1.25"),
        ("TAG=${SUFFIX:-1.25}", "1.25"),
    ],
)
def test_variables_are_taken_from_the_file_beside(folder: Folder, line: str, tag: str) -> None:
    folder.env.write_text(line + "\n")
    assert folder.image("nginx:${TAG}") == f"nginx:{tag}"


def test_the_environment_wins_over_the_file(folder: Folder) -> None:
    folder.env.write_text("MAJOR=1\nTAG=${MAJOR}.25\n")
    assert folder.image("nginx:${TAG}", TAG="2") == "nginx:2"
    assert folder.image("nginx:${TAG}", MAJOR="3") == "nginx:3.25"


@pytest.mark.parametrize("text", ["TAG\n", "OTHER=1\n", "TAG=${MAJOR}\n", "= = =\n"])
def test_a_variable_without_a_value_is_named_as_skipped(folder: Folder, text: str) -> None:
    folder.env.write_text(text)
    [skipped] = folder.read("nginx:${TAG}").skipped
    assert "variable TAG is not set" in skipped.reason


def test_values_of_values_do_not_grow_without_a_bound(folder: Folder) -> None:
    doubled = "".join(f"A{n}=${{A{n - 1}}}${{A{n - 1}}}\n" for n in range(1, 60))
    folder.env.write_text("A0=1\n" + doubled)
    assert folder.image("nginx:${A3}") == "nginx:11111111"
    [skipped] = folder.read("nginx:${A59}").skipped
    assert "variable A59 is not set" in skipped.reason


@pytest.mark.parametrize(
    ("data", "why"), [(b"A=1\n" * 20_000, "is larger than 64 KiB"), (b"A=\xff\n", "UTF-8")]
)
def test_a_file_beyond_the_bounds_is_refused_by_name(folder: Folder, data: bytes, why: str) -> None:
    folder.env.write_bytes(data)
    with pytest.raises(UnreadableList, match=why) as refused:
        folder.read("nginx:${TAG}")
    assert str(folder.env) in str(refused.value)


def test_a_file_that_is_not_needed_is_not_read(folder: Folder) -> None:
    folder.env.mkdir()
    assert folder.image("nginx:1") == "nginx:1"
    with pytest.raises(UnreadableList, match=r"takes variables from .*cannot be read"):
        folder.read("nginx:${TAG}")
