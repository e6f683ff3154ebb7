"""`mirror check`: all that is wrong with a configuration, at once, each with key and place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mirror.settings import load_all
from mirror.settings.lines import lines_of
from tests.command import environment

WORD = "s3cret-word"  # must never be printed


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration may be written."""
    return tmp_path / "mirror.toml"


def test_each_key_is_found_on_its_line() -> None:
    text = """# a comment, with = and [brackets]
listen = ":5000"
host_names = [
    "a", # ] not yet
    '''
tag_ttl = "within a text"
[no.table]
''',
]

[upstreams."docker.io"] # a table
username = "u"
  [ upstreams . "ghcr.io" ]
url = "x"
[clients]
ci = { token = "t", allow = ["a"] }
shares."*" = 3
[[odd]]
key = 1
"""
    assert lines_of(text) == {
        ("listen",): 2,
        ("host_names",): 3,
        ("upstreams", "docker.io"): 11,
        ("upstreams", "docker.io", "username"): 12,
        ("upstreams", "ghcr.io"): 13,
        ("upstreams", "ghcr.io", "url"): 14,
        ("clients",): 15,
        ("clients", "ci"): 16,
        ("clients", "ci", "token"): 16,
        ("clients", "ci", "allow"): 16,
        ("clients", "shares"): 17,
        ("clients", "shares", "*"): 17,
        ("odd",): 18,
        ("odd", "key"): 19,
    }


def test_windows_line_ends_count_as_lines() -> None:
    assert lines_of('a = 1\r\nb = """\r\nx"""\r\nc = 3\r\n') == {("a",): 1, ("b",): 2, ("c",): 4}


def test_all_that_is_wrong_is_found_at_once_with_its_place(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        'tag_ttl = "often"\n'
        "tag_tll = 60\n"
        "challenge = true\n"
        '[upstreams.quay.io]\nurl = "https://quay.io"\n'
        '[upstreams."ghcr.io"]\n'
        'username = "robot"\n'
        f'password = "{WORD}"\n'
        '[upstreams."gcr.io"]\n'
        'url = "https://gcr.io"\n'
        'username = "a:b"\n'
        "reserve = 5\n"
    )
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "mirror_upstream__ghcr_io__password").write_text("x")
    (secrets / "mirror_stale_after").write_text("never")
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("MIRROR_LISTN", ":5000")
    monkeypatch.setenv("MIRROR_SHARES", "{")
    monkeypatch.setenv("MIRROR_CLIENTS", "[")
    monkeypatch.setenv("MIRROR_MAX_FETCHES", "0")
    faults = sorted(load_all(file=file).faults)
    begin = [
        "MIRROR_CLIENTS: JSON is wanted",
        "MIRROR_LISTN: unknown environment variable; did you mean MIRROR_LISTEN?",
        "MIRROR_SHARES: JSON is wanted",
        f"challenge (line 3 of {file}) wants htpasswd",
        "max_fetches (MIRROR_MAX_FETCHES) is '0': at least 1 is wanted",
        f"mirror_upstream__ghcr_io__password: unknown secret in {secrets}",
        f"stale_after (the secret mirror_stale_after in {secrets}) is 'never': a duration",
        f"tag_tll (line 2 of {file}): unknown key; did you mean tag_ttl?",
        f"tag_ttl (line 1 of {file}) is 'often': a duration is wanted",
        f"upstreams.gcr.io (line 9 of {file}): a username without a colon is wanted",
        f"upstreams.gcr.io (line 9 of {file}): reserve and reserved_for go together",
        f"upstreams.gcr.io (line 9 of {file}): username and password (or password_file) go",
        f"upstreams.ghcr.io.url (line 6 of {file}): a value is wanted",
        "upstreams.quay.io: a name with dots is quoted in a file",
    ]
    assert [
        (fault, fault.startswith(start)) for fault, start in zip(faults, begin, strict=True)
    ] == [(fault, True) for fault in faults]
    assert WORD not in "".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        'tls_cert = 3\ntls_key = "a.pem"\nclient_ca = "b.pem"',
        'htpasswd = ["a"]\nchallenge = true\nanonymous = []',
        'default_upstream = "a.io"\nupstreams."a.io".url = "ftp://a"',
        '[upstreams."a.io"]\nurl = "https://a"\nusername = 3\npassword = "x"',
        '[clients.ci]\ntoken = "short"\n[shares]\nci = 3',
    ],
)
def test_what_follows_from_one_fault_is_not_told_as_another(file: Path, text: str) -> None:
    file.write_text(text)
    assert len(load_all(file=file).faults) == 1


def test_what_is_not_wrong_stays_when_something_is(file: Path) -> None:
    file.write_text(f'tag_ttl = "often"\nmissing_ttl = 7\ndata_dir = {json.dumps("/srv/mirror")}')
    loaded = load_all(file=file)
    assert loaded.settings is not None
    assert (loaded.settings.tag_ttl, loaded.settings.missing_ttl) == (60, 7)
    assert loaded.settings.data_dir == Path("/srv/mirror")
