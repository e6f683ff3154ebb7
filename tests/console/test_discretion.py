"""Discretion: no result for all viewers names an account, an image, or a file on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mirror.admin.messages import Concern, Status
from mirror.admin.operations import concerns
from mirror.console.discretion import discreet
from tests.admin.test_concerns import CASES, DISK, LIMIT

ACCOUNT, FILE, IMAGE = "payer-7", "/srv/acme", "ghcr.io/acme/secret"


def told(status: Status) -> str:
    """Return all that a stranger reads of a status, after the mirror has judged it."""
    judged = replace(status, concerns=tuple(concerns.concerns(status)))
    return str(discreet(judged))


@pytest.mark.parametrize("key", CASES)
def test_no_concern_names_account_file_or_image_to_a_stranger(key: str) -> None:
    case = CASES[key]
    limits = tuple(replace(each, account=ACCOUNT) for each in case.limits)
    trouble = case.disk.trouble and f"cannot write to {FILE}"
    disk, pins = replace(case.disk, trouble=trouble), (IMAGE,) * len(case.absent_pins)
    schedules = tuple(replace(each, name=IMAGE, failure=FILE) for each in case.schedules)
    named = replace(case, limits=limits, disk=disk, absent_pins=pins, schedules=schedules)
    words = told(named)
    assert f"key='{key}'" in words
    assert ACCOUNT not in words
    assert FILE not in words
    assert IMAGE not in words


@pytest.mark.parametrize("account", ["an", ".", "docker.io", "spent", "{0}", "%s", "(anonymous)"])
def test_an_account_named_like_a_word_changes_no_other_word(account: str) -> None:
    spent = replace(LIMIT, remaining=0, shut=600)
    hidden, other = (
        discreet(replace(CASES["budget_spent"], limits=(replace(spent, account=each),)))
        for each in (account, "somebody")
    )
    assert hidden == other
    assert [each.what for each in hidden.concerns] == [
        "The pulls of docker.io (an account) are spent; the next one is back in 10 min."
    ]


def test_a_phrase_of_another_concern_names_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(status: Status) -> Iterator[Concern]:
        for limit in status.limits:
            what = f"{limit.account.upper()}'s {status.disk.trouble}".lower()
            yield Concern("new", "error", what, f"Ask {limit.account[::-1]}.", "tls")

    monkeypatch.setattr(concerns, "_JUDGES", (judge,))
    limits = (replace(LIMIT, account=ACCOUNT),)
    case = replace(CASES["logins"], limits=limits, disk=replace(DISK, trouble=FILE))
    assert ACCOUNT in concerns.concerns(case)[0].what
    words = told(case)
    assert "new" in words
    assert not [name for name in (ACCOUNT, ACCOUNT[::-1], FILE) if name in words]
