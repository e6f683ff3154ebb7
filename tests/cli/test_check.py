"""`mirror check` reports all faults of a configuration at once, each with its key and place."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from yarl import URL

from mirror.settings import load, load_all
from mirror.settings.toml_lines import lines_of
from tests.standin import Fault, Hub
from tests.support.command import (
    FITS,
    NOBODY,
    Ended,
    fetch,
    launched,
    serve_to_the_end,
    serving,
)

WORD = "s3cret-word"  # must never be printed


pytestmark = pytest.mark.usefixtures("unconfigured")


def test_a_long_list_is_parsed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line was parsed with all lines before it: thousands of patterns delayed a start."""
    parsed, loads = list[str](), tomllib.loads

    def counted(text: str) -> dict[str, object]:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    entries = [f'  "org/[a-z]-{number}*",  # a team\'s [{number}]' for number in range(10_000)]
    found = lines_of("\n".join(["deny = [", *entries, "  'last]']", "tag_ttl = 5"]))
    assert found == {("deny",): 1, ("tag_ttl",): 10_003}
    assert len(parsed) == 3


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
        ("odd", "0"): 18,
        ("odd", "0", "key"): 19,
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
        "MIRROR_CLIENTS: expected JSON",
        "MIRROR_LISTN: unknown environment variable; did you mean MIRROR_LISTEN?",
        "MIRROR_SHARES: expected JSON",
        f"challenge (line 3 of {file}) needs htpasswd",
        "max_fetches (MIRROR_MAX_FETCHES) is '0': expected at least 1",
        f"mirror_upstream__ghcr_io__password: unknown secret in {secrets}",
        f"stale_after (the secret mirror_stale_after in {secrets}) is 'never': expected a duration",
        f"tag_tll (line 2 of {file}): unknown key; did you mean tag_ttl?",
        f"tag_ttl (line 1 of {file}) is 'often': expected a duration",
        f"upstreams.gcr.io (line 9 of {file}): expected a username without a colon",
        f"upstreams.gcr.io (line 9 of {file}): reserve and reserved_for go together",
        f"upstreams.gcr.io (line 9 of {file}): username and password (or password_file) go",
        f"upstreams.ghcr.io.url (line 6 of {file}): expected a value",
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


def test_right_keys_stay_beside_wrong_ones(file: Path) -> None:
    file.write_text(f'tag_ttl = "often"\nmissing_ttl = 7\ndata_dir = {json.dumps("/srv/mirror")}')
    loaded = load_all(file=file)
    assert loaded.settings is not None
    assert (loaded.settings.tag_ttl, loaded.settings.missing_ttl) == (60, 7)
    assert loaded.settings.data_dir == Path("/srv/mirror")


# The command


def put(file: Path, text: str) -> None:
    """Write a configuration."""
    file.write_text(text)


async def check(
    *options: str | Path, env: Mapping[str, str] | None = None, command: str = "check"
) -> Ended:
    """Run `mirror check`, or another command, to its end."""
    async with launched(command, *options, env=env) as running:
        return await running.ended()


async def test_nothing_wrong_ends_with_0(file: Path, tmp_path: Path) -> None:
    put(file, f'data_dir = {json.dumps(str(tmp_path / "data"))}\nmax_size = "64MiB"\n')
    assert await check("--config", file) == (0, "nothing is wrong\n", "")
    assert not (tmp_path / "data").exists()


async def test_all_that_a_start_would_refuse_is_told_and_nothing_is_made(
    file: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        put(
            file,
            'tag_ttl = "often"\n'
            f'listen = "{listen}"\n'
            'htpasswd = "/nowhere/users"\n'
            'tls_cert = "/nowhere/cert"\ntls_key = "/nowhere/key"\n'
            f"data_dir = {json.dumps(str(tmp_path / 'file' / 'data'))}\n"
            '[upstreams."docker.io"]\nusername = "robot"\npassword_file = "/nowhere/word"\n'
            '[upstreams."a.io"]\nurl = "https://a.io"\nca_file = "/nowhere/ca"\n'
            'client_cert = "/nowhere/c"\nclient_key = "/nowhere/k"\n',
        )
        (tmp_path / "file").touch()
        env = FITS | {"MIRROR_CONFIG": str(file), "HTTPS_PROXY": "socks5://a"}
        ended = await check(env=env)
    begin = [
        f"tag_ttl (line 1 of {file}) is 'often': expected a duration",
        f"tls_cert (line 4 of {file}) is '/nowhere/cert': cannot be read: No such file",
        f"tls_key (line 5 of {file}) is '/nowhere/key': cannot be read: No such file",
        f"htpasswd (line 3 of {file}) is '/nowhere/users': cannot be read: No such file",
        f"upstreams.docker.io.password_file (line 9 of {file}) is '/nowhere/word': cannot be",
        "upstreams.docker.io.proxy (HTTPS_PROXY): expected http://[user:password@]host",
        f"upstreams.a.io.ca_file (line 12 of {file}) is '/nowhere/ca': cannot be read: No such",
        f"upstreams.a.io.client_cert (line 13 of {file}) is '/nowhere/c': cannot be read: No such",
        f"upstreams.a.io.client_key (line 14 of {file}) is '/nowhere/k': cannot be read: No such",
        f"data_dir (line 6 of {file}) is '{tmp_path / 'file' / 'data'}': cannot write to the data",
        f"listen (line 2 of {file}) is '{listen}': Address already in use; choose another",
    ]
    lines = ended.out.splitlines()
    assert [line.startswith(start) for line, start in zip(lines, begin, strict=True)] == [
        True for _ in begin
    ], ended.out
    assert (ended.code, ended.err) == (1, "")


async def test_the_start_refuses_the_faults_of_the_check_in_the_same_words(file: Path) -> None:
    put(file, '[upstreams."docker.io"]\nusername = "robot"\npassword_file = "/nowhere/word"\n')
    told = (await check("--config", file)).out.splitlines()
    ended = await serve_to_the_end("--config", file)
    place = f" (line 3 of {file})"
    assert [f"mirror: {line.replace(place, '')}" for line in told] == ended.err.splitlines()
    assert place in told[0]


async def test_a_file_that_is_not_there_or_not_toml_is_one_line(file: Path) -> None:
    ended = await check("--config", file)
    assert (ended.code, ended.out) == (1, f"{file}: cannot be read: No such file or directory\n")
    put(file, "listen = \n")
    ended = await check("--config", file)
    assert (ended.code, ended.out.count("\n")) == (1, 1)
    assert ended.out.startswith(f"{file}: is not TOML: Invalid value (at line 1, ")


async def test_misuse_ends_with_2_and_one_line() -> None:
    ended = await check("--onlin")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == ("mirror: unrecognized arguments: --onlin; see `mirror --help`\n")


async def test_beside_a_daemon_its_address_is_not_called_taken(tmp_path: Path, file: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, "--upstream", NOBODY) as mirror:
        address = (await mirror.address()).removeprefix("http://")
        put(file, f'listen = "{address}"\ndata_dir = {json.dumps(str(data))}\n')
        assert (await check("--config", file)).out == "nothing is wrong\n"
        assert (await fetch(f"http://{address}/readyz"))[0] == 200


async def test_a_file_system_smaller_than_max_size_is_a_warning_and_no_fault(
    tmp_path: Path, file: Path
) -> None:
    data = tmp_path / "data"
    put(
        file,
        'listen = "127.0.0.1:0"\n'
        f'max_size = "900000TiB"\ndata_dir = {json.dumps(str(data))}\n'
        '[upstreams."docker.io"]\nurl = "http://127.0.0.1:1"\n',
    )
    ended = await check("--config", file)
    assert (ended.code, ended.out) == (0, "nothing is wrong\n")
    [line] = ended.err.splitlines()
    assert line.startswith(f"mirror: warning: max_size (line 2 of {file}) is '900000.0 TiB': ")
    async with launched("serve", "--config", file) as mirror:
        await mirror.address()
        [warned] = [line for line in mirror.err.splitlines() if " max_size is " in line]
    assert " WARNING " in warned


# Upstreams


async def test_each_upstream_is_tried_as_the_daemon_asks_it(
    hub: Hub, file: Path, tmp_path: Path
) -> None:
    hub.terms.users = {"robot": WORD}
    hub.terms.account_limit = 200
    (tmp_path / "word").write_text(f"{WORD}\n")
    url = URL(hub.url)
    put(
        file,
        f'[upstreams."docker.io"]\nurl = "{hub.url}"\n'
        f'username = "robot"\npassword_file = "{tmp_path / "word"}"\n'
        f'[upstreams."a.io"]\nurl = "{hub.url}"\n'
        f'[upstreams."b.io"]\nurl = "{hub.url}"\nusername = "robot"\npassword = "{WORD}x"\n'
        '[upstreams."c.io"]\nurl = "http://127.0.0.1:1"\n'
        '[upstreams."d.io"]\nurl = "http://registry.invalid"\n'
        f'[upstreams."e.io"]\nurl = "https://{url.authority}"\n'
        '[upstreams."f.io"]\nurl = "https://f.io"\nca_file = "/nowhere/ca"\n',
    )
    ended = await check("--config", file, "--online")
    assert ended.code == 1
    found = dict(line.split(": ", 1) for line in ended.out.splitlines())
    assert found.pop("docker.io").endswith("s, as robot, 200 of 200 pulls are left")
    assert found.pop("a.io").endswith(" s, as anonymous")
    begin = f"upstreams.{{}}.url (line {{}} of {file}) is '{{}}'"
    assert "refuses the login of 'robot'" in found.pop(begin.format("b.io", 8, hub.url))
    refused = "cannot reach upstream 127.0.0.1: Connection refused"
    assert found.pop(begin.format("c.io", 12, "http://127.0.0.1:1")) == refused
    unknown = found.pop(begin.format("d.io", 14, "http://registry.invalid"))
    assert unknown.startswith("cannot reach upstream registry.invalid: ")
    assert "TLS failed" in found.pop(begin.format("e.io", 16, f"https://{url.authority}"))
    assert list(found) == [f"upstreams.f.io.ca_file (line 19 of {file}) is '/nowhere/ca'"]
    assert WORD not in ended.out + ended.err
    assert hub.count(kind="manifest", method="GET") == 0  # a GET would be a pull


async def test_an_upstream_that_says_nothing_is_given_up_in_time(hub: Hub, file: Path) -> None:
    never = asyncio.Event()
    hub.faults.add(Fault(hang=True, until=never))
    put(file, f'answer_timeout = 1\n[upstreams."docker.io"]\nurl = "{hub.url}"\n')
    ended = await check("--config", file, "--online")
    never.set()
    assert ended.code == 1
    assert ended.out.endswith(": upstream 127.0.0.1 does not answer\n")


# The values in force


async def test_each_value_is_shown_with_where_it_comes_from_and_no_secret(
    file: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "mirror_upstreams__docker_io__password").write_text(WORD)
    put(
        file,
        'listen = ":5000"\nmax_size = "80%"\ntag_ttl = "5m"\n'
        f'[clients.ci]\ntoken = "{WORD}{WORD}"\nallow = ["a/*"]\n'
        '[shares]\n"10.0.0.0/8" = "30%"\n'
        '[upstreams."a.io"]\nurl = "http://a.io"\n'
        f'proxy = "http://robot:{WORD}@p.example:1"\n',
    )
    env = {
        "MIRROR_CONFIG": str(file),
        "MIRROR_SECRETS_DIR": str(secrets),
        "MIRROR_TAG_TTL": "30",
        "MIRROR_UPSTREAMS__DOCKER_IO__USERNAME": "robot",
        "HTTPS_PROXY": f"http://robot:{WORD}@q.example:1",
    }
    ended = await check("--json", env=env, command="config")
    told = {each["key"]: (each["value"], each["from"]) for each in json.loads(ended.out)}
    expected = {
        "listen": (":5000", f"line 1 of {file}"),
        "max_size": ("80%", f"line 2 of {file}"),
        "tag_ttl": ("30s", "MIRROR_TAG_TTL"),
        "missing_ttl": ("10s", "default"),
        "memory_cache": ("16MiB", "default"),
        "upstreams.a.io.max_rate": (0, "default"),
        "ledger_keep": ("30d", "default"),
        "tls_cert": (None, "default"),
        "clients.ci.token": ("***", f"line 5 of {file}"),
        "clients.ci.allow": (["a/*"], f"line 6 of {file}"),
        "shares.10.0.0.0/8": ("30%", f"line 8 of {file}"),
        "upstreams.docker.io.url": ("https://registry-1.docker.io", "default"),
        "upstreams.docker.io.username": ("robot", "MIRROR_UPSTREAMS__DOCKER_IO__USERNAME"),
        "upstreams.docker.io.password": (
            "***",
            f"the secret mirror_upstreams__docker_io__password in {secrets}",
        ),
        "upstreams.docker.io.proxy": ("http://q.example:1", "the environment"),
        "upstreams.a.io.proxy": ("http://***@p.example:1", f"line 11 of {file}"),
    }
    assert {key: told[key] for key in expected} == expected
    shown = await check(env=env, command="config")
    assert re.search(r'^tag_ttl = "30s" +# MIRROR_TAG_TTL$', shown.out, flags=re.MULTILINE)
    for ran in (ended, shown):
        assert (ran.code, ran.err) == (0, "")
        assert WORD not in ran.out


async def test_the_shown_settings_can_be_read_as_an_equal_file(file: Path, tmp_path: Path) -> None:
    put(
        file,
        'max_size = "800MB"\nhost_names = ["a.example"]\nstale_after = 0.5\n'
        'ledger_keep = "1h30m5s"\nmax_stale = 90.123456789\nmemory_cache = 1234567\n'
        '[shares]\n"*" = 7\n'
        '[upstreams."registry.example:5000"]\nurl = "http://a"\nallow = ["x/*"]\nproxy = "none"\n',
    )
    other = tmp_path / "other.toml"
    other.write_text((await check("--config", file, command="config")).out)
    assert load(file=other).model_dump() == load(file=file).model_dump()


async def test_a_faulty_configuration_is_not_shown_but_named(file: Path) -> None:
    put(file, 'tag_ttl = "often"\nmax_fetches = 0\n')
    ended = await check("--config", file, command="config")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mirror: tag_ttl (line 1 of {file}) is 'often': ")
    assert ended.err.endswith("; `mirror check` prints all faults\n")
