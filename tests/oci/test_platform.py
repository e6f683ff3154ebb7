"""Platforms in the form that engines compare."""

from __future__ import annotations

import pytest

from mirror.oci.platform import Platform, best, parse_platform, read_platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("Windows/amd64", "windows/amd64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_a_platform_has_one_form(text: str, expected: str) -> None:
    assert str(parse_platform(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "a/b/c/d", "linux/a b", "l\x1b/a", "/amd64"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a platform") as error:
        parse_platform(text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "value", [None, [], {}, {"os": 1, "architecture": "a"}, {"os": "linux"}, {"os": "\x1b", "a": 1}]
)
def test_the_platform_of_an_entry_may_be_missing(value: object) -> None:
    assert read_platform(value) is None


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("amd64", ["linux/amd64", "linux/arm64"], "linux/amd64"),
        ("arm64", ["linux/amd64"], None),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("amd64", ["linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v2"),
        ("linux/amd64/v3", ["linux/amd64"], "linux/amd64"),
        ("windows/amd64", ["linux/amd64"], None),
    ],
)
def test_an_engine_takes_the_best_that_it_can_run(
    wanted: str, offered: list[str], expected: str | None
) -> None:
    found = best(parse_platform(wanted), map(parse_platform, offered))
    assert found == (None if expected is None else parse_platform(expected))


def test_a_platform_is_read_from_an_entry() -> None:
    entry = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"}
    assert read_platform(entry) == Platform("linux", "arm64")
