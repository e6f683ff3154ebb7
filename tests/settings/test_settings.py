"""Settings: flags, environment, secrets, file, defaults, in this order; and plain refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mirror.app.upstream_plans import password_of
from mirror.identity.share import Share
from mirror.settings import ConfigurationError, Settings, load, measures
from mirror.settings.measures import Bound, PinnedPart

WORD = "s3cret-word"  # must never be printed
VALUES = {  # for each key a value that is not the default: as written, as read
    "listen": ("[::1]:5001", ("::1", 5001)),
    "listen_metrics": ("127.0.0.1:5002", ("127.0.0.1", 5002)),
    "admin_listen": ("127.0.0.1:5003", ("127.0.0.1", 5003)),
    "admin_hosts": ("admin.example", ("admin.example",)),
    "host_names": ("mirror.example,10.0.0.9:5001", ("mirror.example", "10.0.0.9:5001")),
    "tls_cert": ("/etc/mirror/mirror.pem", Path("/etc/mirror/mirror.pem")),
    "tls_key": ("/etc/mirror/mirror.key", Path("/etc/mirror/mirror.key")),
    "client_ca": ("/etc/mirror/clients.pem", Path("/etc/mirror/clients.pem")),
    "data_dir": ("/srv/mirror", Path("/srv/mirror")),
    "max_size": ("800MB", Bound(800_000_000)),
    "max_pinned": ("25%", PinnedPart(25)),
    "tag_ttl": ("2.5", 2.5),
    "tag_refresh_ahead": ("5m", 300),
    "missing_ttl": ("0", 0),
    "stale_after": ("1", 1),
    "memory_cache": ("1MiB", 2**20),
    "max_fetches": ("7", 7),
    "abandon_after": ("3", 3),
    "shutdown_grace": ("4", 4),
    "max_stale": ("600", 600),
    "limit_check": ("0", 0),
    "ledger_keep": ("86400", 86400),
    "connect_timeout": ("5", 5),
    "answer_timeout": ("6", 6),
    "silence_timeout": ("7", 7),
    "resume_timeout": ("9", 9),
    "max_connections": ("8", 8),
    "client_connections": ("8", 8),
    "trusted_proxies": ("10.0.0.9,::1", ("10.0.0.9/32", "::1/128")),
    "idle_timeout": ("11", 11),
    "client_timeout": ("12", 12),
    "htpasswd": ("/etc/mirror/users", Path("/etc/mirror/users")),
    "client_rate": ("20", 20),
    "log_format": ("json", "json"),
    "log_level": ("warning", "warning"),
}
TOGETHER = {"tls_cert", "tls_key", "client_ca"}  # one alone is refused


pytestmark = pytest.mark.usefixtures("unconfigured")


def refusal(file: Path | None = None) -> str:
    """Return the line that says why a configuration is refused, without the place."""
    with pytest.raises(ConfigurationError) as caught:
        load(file=file)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return re.sub(r" \((line \d+ of [^)]*|MIRROR_\w+)\)", "", line, count=1)


def test_every_key_has_a_value_here_to_be_tried() -> None:
    elsewhere = {
        "upstreams",
        "default_upstream",
        "shares",
        "schedules",
        "clients",
        "challenge",
        "operators",
        "anonymous",
        "proxy_protocol",
    }  # with separate tests
    assert VALUES.keys() | elsewhere == Settings.model_fields.keys()


@pytest.mark.parametrize("key", VALUES)
def test_every_key_can_be_given_in_each_way(
    monkeypatch: pytest.MonkeyPatch, file: Path, key: str
) -> None:
    written, read = VALUES[key]
    beside = {other: VALUES[other][0] for other in TOGETHER - {key}} if key in TOGETHER else {}
    assert getattr(load({key: written, **beside}), key) == read
    file.write_text(f"{key} = {json.dumps(written)}")
    assert getattr(load(beside, file=file), key) == read
    monkeypatch.setenv(f"MIRROR_{key.upper()}", written)
    assert getattr(load(beside), key) == read


def test_flags_beat_environment_beats_secrets_beat_file_beats_defaults(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    assert load().tag_ttl == 60
    file.write_text("tag_ttl = 1")
    assert load(file=file).tag_ttl == 1
    (tmp_path / "mirror_tag_ttl").write_text("2")
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path))
    assert load(file=file).tag_ttl == 2
    monkeypatch.setenv("MIRROR_TAG_TTL", "3")
    assert load(file=file).tag_ttl == 3
    assert load({"tag_ttl": "4"}, file).tag_ttl == 4


def test_flags_beat_environment_beats_file_for_an_upstream_too(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('[upstreams."docker.io"]\nurl = "http://file"')
    assert load(file=file).upstreams["docker.io"].url == "http://file"
    monkeypatch.setenv("MIRROR_UPSTREAMS__DOCKER_IO__URL", "http://variable")
    assert load(file=file).upstreams["docker.io"].url == "http://variable"
    flags = {"upstreams": {"docker.io": {"url": "http://flag"}}}
    assert load(flags, file).upstreams["docker.io"].url == "http://flag"


def test_an_upstream_is_put_together_from_all_sources(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    file.write_text('[upstreams."ghcr.io"]\nurl = "https://ghcr.io"')
    monkeypatch.setenv("MIRROR_UPSTREAMS__GHCR_IO__USERNAME", "robot")
    (tmp_path / "mirror_upstreams__ghcr_io__password").write_text(f"{WORD}\n")
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path))
    upstreams = load(file=file).upstreams
    assert upstreams.keys() == {"docker.io", "ghcr.io"}
    assert upstreams["ghcr.io"].username == "robot"
    assert password_of(upstreams["ghcr.io"]) == WORD


def test_the_flag_names_the_file_before_the_variable_does(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIRROR_CONFIG", str(file))
    file.write_text("tag_ttl = 1")
    assert load().tag_ttl == 1
    (tmp_path / "other.toml").write_text("tag_ttl = 2")
    assert load(file=tmp_path / "other.toml").tag_ttl == 2


def test_systemds_credentials_are_read_unless_another_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, word in (("systemd", WORD), ("own", "another")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mirror_upstreams__docker_io__password").write_text(word)
    monkeypatch.setenv("MIRROR_UPSTREAMS__DOCKER_IO__USERNAME", "robot")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "systemd"))
    assert password_of(load().upstreams["docker.io"]) == WORD
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path / "own"))
    assert password_of(load().upstreams["docker.io"]) == "another"


def test_a_password_file_is_read_without_its_line_end(file: Path, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text(f" {WORD}\r\n")
    file.write_text(
        f'[upstreams."docker.io"]\nusername = "robot"\npassword_file = {json.dumps(str(word))}'
    )
    assert password_of(load(file=file).upstreams["docker.io"]) == f" {WORD}"


def test_a_path_may_begin_at_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~/.docker/config.json is the usual form, and no shell reads a file or systemd's variables."""
    monkeypatch.setenv("HOME", "/home/robot")
    file.write_text(
        'data_dir = "~/data"\n[upstreams."docker.io"]\ndocker_config = "~/.docker/config.json"'
    )
    settings = load(file=file)
    assert settings.data_dir == Path("/home/robot/data")
    assert settings.upstreams["docker.io"].docker_config == Path("/home/robot/.docker/config.json")
    assert load({"data_dir": "~"}).data_dir == Path("/home/robot")
    file.write_text('data_dir = "~nobody-of-that-name/data"')
    assert "'~nobody-of-that-name/data'" in refusal(file)
    assert "no home" in refusal(file)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tag_tll = 60", ["tag_tll", "did you mean tag_ttl?"]),
        ("[storage]\nmax_size = 1", ["storage", "did you mean data_dir?"]),
        ('upstreams."a.io" = { url = "http://a", user = "b" }', ["a.io.user", "username"]),
        ('upstreams."a.io" = { username = "b", password = "c" }', ["a.io.url"]),
        ('upstreams."a.io" = "https://a.io"', ["upstreams.a.io", "url"]),
        ('upstreams."a.io".url = "ftp://a"', ["a.io.url", "'ftp://a'", "https://"]),
        ('upstreams."a.io".url = "a.io"', ["a.io.url", "'a.io'", "https://"]),
        (
            'upstreams."docker.io".repository_prefix = "A/b"',
            ["repository_prefix", "dockerhub-cache"],
        ),
        ('upstreams."docker.io".repository_prefix = "a//b"', ["repository_prefix", "lower-case"]),
        ('listen = "5000"', ["listen", "'5000'", "host:port"]),
        ('listen = "127.0.0.1:65536"', ["listen", "65536", "host:port"]),
        ("listen = 5000", ["listen", "5000", "host:port"]),
        ("data_dir = 3", ["data_dir", "3", "path"]),
        ('data_dir = "a\\u0000b"', ["data_dir", "path"]),
        ('max_size = "50 apples"', ["max_size", "'50 apples'", "50GiB"]),
        ("max_size = -1", ["max_size", "-1", "50GiB"]),
        ("max_size = true", ["max_size", "True", "50GiB"]),
        ('tag_ttl = "soon"', ["tag_ttl", "'soon'", "duration"]),
        ("tag_ttl = -1", ["tag_ttl", "-1", "seconds"]),
        ("tag_ttl = nan", ["tag_ttl", "nan", "seconds"]),
        ("tag_ttl = [1]", ["tag_ttl", "[1]", "seconds"]),
        ("max_fetches = 0", ["max_fetches", "0", "1"]),
        ("max_fetches = 101", ["max_fetches", "101", "100"]),
        ('max_fetches = "many"', ["max_fetches", "'many'", "whole number"]),
        ('log_format = "xml"', ["log_format", "'xml'", "text", "json"]),
        ('log_level = "loud"', ["log_level", "'loud'", "debug", "info", "warning", "error"]),
        ("upstreams = 3", ["upstreams", "3"]),
        ('upstreams."docker.io".auth = "digest"', ["docker.io.auth", "'basic'", "'ecr-public'"]),
        ('upstreams."docker.io".auth = "basic"', ["docker.io", "needs an account"]),
        ('upstreams."docker.io".auth = "acr"', ["docker.io", "needs an account"]),
        ('upstreams."docker.io".realms = ["a.io"]', ["docker.io.realms", "origins", "https://"]),
        ('upstreams."docker.io".realms = "https://a/b"', ["docker.io.realms", "origins"]),
        ('upstreams."docker.io".realms = 3', ["docker.io.realms", "origins"]),
        ('upstreams."docker.io".docker_config = ""', ["docker.io.docker_config", "path"]),
        (
            'upstreams."a.io" = { url = "http://a", hosts = "a/b" }',
            ["a.io.hosts", "expected hosts"],
        ),
        (
            'upstreams."a.io" = { url = "http://a", hosts = [3.5, ""] }',
            ["a.io.hosts", "expected hosts"],
        ),
        ('upstreams."a.io/b".url = "http://a"', ["upstreams.a.io/b: ", "such as ghcr.io"]),
        ('upstreams."A.io".url = "http://a"', ["upstreams.A.io: ", "in lower case"]),
        ('upstreams.nexus.url = "http://a"', ["upstreams.nexus: ", "with a dot or a port"]),
        ('upstreams."http://a.io".url = "http://a"', ["upstreams.http://a.io: ", "such as"]),
        ('upstreams."a.io\\n".url = "http://a"', ["upstreams.a.io: ", "such as ghcr.io"]),
        ('upstreams."index.docker.io".url = "http://a"', ["index.docker.io", "is docker.io"]),
        ('default_upstream = "quay.io"', ["default_upstream", "'quay.io'", "upstreams: docker.io"]),
        ('default_upstream = ""', ["default_upstream", "''", "such as ghcr.io"]),
        ('default_upstream = "index.docker.io"', ["default_upstream", "name", "is docker.io"]),
        ("\ntag_ttl = often", ["mirror.toml", "TOML", "line 2"]),
    ],
)
def test_a_refused_setting_is_named_with_the_allowed_values(
    file: Path, text: str, parts: list[str]
) -> None:
    file.write_text(text)
    line = refusal(file)
    for part in parts:
        assert part in line
    for jargon in ("pydantic", "pathlib", "Upstream", "dictionary", "EnvSettingsSource"):
        assert jargon not in line


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("MIRROR_TAG_TLL", "60", ["MIRROR_TAG_TLL", "MIRROR_TAG_TTL"]),
        ("MIRROR_TAG_TTL", "often", ["tag_ttl", "'often'", "seconds"]),
        ("MIRROR_TAG_TTL__X", "60", ["MIRROR_TAG_TTL__X"]),
        ("MIRROR_CONFIG__X", "60", ["MIRROR_CONFIG__X"]),
        ("MIRROR_UPSTREAMS__DOCKER_IO__USER", "b", ["upstreams.docker.io.user", "username"]),
        ("MIRROR_UPSTREAMS", "a.io", ["MIRROR_UPSTREAMS", "JSON"]),
        ("MIRROR_CONFIG", "/nowhere/mirror.toml", ["/nowhere/mirror.toml", "No such file"]),
        ("MIRROR_CONFIG", "/", ["/", "directory"]),
        ("MIRROR_SECRETS_DIR", "/nowhere", ["MIRROR_SECRETS_DIR", "/nowhere"]),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, parts: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    line = refusal()
    for part in parts:
        assert part in line
    assert "EnvSettingsSource" not in line


def test_a_secret_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mirror_upstreams__docker_io__password").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path))
    assert str(tmp_path) in refusal()


def test_a_secret_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "mirror_upstreams__docker_io__password"
    secret.write_text(WORD)
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path))

    def refuse(file: Path, *_: object, **__: object) -> str:  # no mode keeps root from reading
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert str(tmp_path) in refusal()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"\xff\xfe", "is not UTF-8"), (b"\n", "is empty")],
    ids=["missing", "no text", "empty"],
)
def test_a_password_file_that_holds_no_password_is_named(
    file: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    word = tmp_path / "word"
    if content is not None:
        word.write_bytes(content)
    file.write_text(
        f'[upstreams."docker.io"]\nusername = "robot"\npassword_file = {json.dumps(str(word))}'
    )
    upstream = load(file=file).upstreams["docker.io"]
    with pytest.raises(ConfigurationError) as caught:
        password_of(upstream)
    assert str(caught.value).startswith(f"password_file is '{word}': ")
    assert reason in str(caught.value)


def test_an_account_is_whole_or_not_there(file: Path) -> None:
    for keys in ('username = "robot"', f'password = "{WORD}"', 'password_file = "/word"'):
        file.write_text(f'[upstreams."docker.io"]\n{keys}')
        assert "go together" in refusal(file)
    file.write_text(
        f'[upstreams."docker.io"]\nusername = "robot"\npassword = "{WORD}"\npassword_file = "/w"'
    )
    assert "set only one" in refusal(file)


@pytest.mark.parametrize("auth", ["anonymous", "ecr", "ecr-public", "google", "azure"])
@pytest.mark.parametrize("keys", ['username = "a"\npassword = "b"', 'docker_config = "/c"'])
def test_an_account_that_would_not_be_used_is_refused(file: Path, auth: str, keys: str) -> None:
    file.write_text(f'[upstreams."docker.io"]\nauth = "{auth}"\n{keys}')
    assert f"which auth = '{auth}' does not use" in refusal(file)


def test_a_name_that_basic_cannot_say_is_refused(file: Path) -> None:
    file.write_text('[upstreams."docker.io"]\nusername = "a:b"\npassword = "c"')
    assert "without a colon" in refusal(file)


def test_an_account_stands_in_one_place(file: Path) -> None:
    account = 'username = "robot"\npassword = "word"\ndocker_config = "/c"'
    file.write_text(f'[upstreams."docker.io"]\n{account}')
    assert "set only one" in refusal(file)


@pytest.mark.parametrize(
    ("keys", "whose"),
    [
        ("", ""),
        ('username = "robot"\npassword = "word"', "robot"),
        ('docker_config = "/c/config.json"', "/c/config.json"),
        ('auth = "ecr"', "ecr"),
    ],
)
def test_it_is_told_whose_account_is_used(file: Path, keys: str, whose: str) -> None:
    file.write_text(f'[upstreams."docker.io"]\n{keys}')
    assert load(file=file).upstreams["docker.io"].account_name == whose


def test_the_default_upstream_can_be_given_in_each_way(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text(
        'default_upstream = "a.io"\nupstreams."a.io".url = "http://a"\nupstreams."b.io".url = "http://b"'
    )
    assert load(file=file).default_upstream == "a.io"
    monkeypatch.setenv("MIRROR_DEFAULT_UPSTREAM", "b.io")
    assert load(file=file).default_upstream == "b.io"
    assert load({"default_upstream": "docker.io"}, file).default_upstream == "docker.io"


def test_hosts_can_be_given_in_each_way(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text('upstreams."a.io" = { url = "http://a", hosts = ["A.mirror", "[::1]:5001"] }')
    assert load(file=file).hosts() == {"a.mirror": "a.io", "[::1]:5001": "a.io"}
    monkeypatch.setenv("MIRROR_UPSTREAMS__A_IO__HOSTS", "b.mirror, b.mirror:5001")
    assert load(file=file).hosts() == {"b.mirror": "a.io", "b.mirror:5001": "a.io"}


def test_a_host_means_one_upstream(file: Path) -> None:
    file.write_text(
        'upstreams."a.io" = { url = "http://a", hosts = ["m.example", "m.example"] }\n'
        'upstreams."b.io" = { url = "http://b", hosts = ["M.EXAMPLE"] }'
    )
    for part in ("upstreams", "hosts", "'m.example'", "a.io", "b.io"):
        assert part in refusal(file)


def test_realms_can_be_given_in_each_way(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    origins = ["https://gitlab.example:8443", "http://10.0.0.1"]
    file.write_text(f'[upstreams."docker.io"]\nrealms = {json.dumps(origins)}')
    assert load(file=file).upstreams["docker.io"].realms == tuple(origins)
    for written in (",".join(origins), json.dumps(origins)):
        monkeypatch.setenv("MIRROR_UPSTREAMS__DOCKER_IO__REALMS", written)
        assert load().upstreams["docker.io"].realms == tuple(origins)


@pytest.mark.parametrize(
    "text",
    [
        f'[upstreams."docker.io"]\npassword = "{WORD}"',
        f'[upstreams."docker.io"]\nusername = "robot"\npassword = "{WORD}"\nauth = "ecr"',
        f'[upstreams."docker.io"]\nauth = "{WORD}"',
        f'[upstreams."docker.io"]\nrealms = ["https://robot:{WORD}@a.example"]',
        f'[upstreams."docker.io"]\nusername = "robot"\npassword = ["{WORD}"]',
        f'[upstreams."docker.io"]\nusername = "robot"\npasswd = "{WORD}"',
        f'[upstreams."docker.io"]\nusername = 3\npassword = "{WORD}"',
        f'[upstreams."docker.io"]\nurl = "https://robot:{WORD}@registry.example"',
        f'[upstreams."docker.io"]\nurl = "robot:{WORD}@registry.example"',
        f'[upstreams."docker.io"]\nurl = "https://registry.example/?token={WORD}"',
        f'[[upstreams]]\nname = "docker.io"\nusername = "robot"\npassword = "{WORD}"',
        f'[upstreams]\n"docker.io" = "{WORD}"',
        f'[upstreams]\n"docker.io" = ["robot", "{WORD}"]',
        f'password = "{WORD}"',
        f'listen = {{ password = "{WORD}" }}',
    ],
)
def test_no_refusal_prints_a_password(file: Path, text: str) -> None:
    file.write_text(text)
    assert WORD not in refusal(file)


@pytest.mark.parametrize("value", [f'{{"docker.io": "{WORD}"}}', f'["{WORD}"]', f'{{"{WORD}'])
def test_no_refusal_of_a_variable_prints_a_password(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MIRROR_UPSTREAMS", value)
    assert WORD not in refusal()


def test_settings_print_no_password(file: Path) -> None:
    file.write_text(f'[upstreams."docker.io"]\nusername = "robot"\npassword = "{WORD}"')
    settings = load(file=file)
    assert password_of(settings.upstreams["docker.io"]) == WORD
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "robot" in shown
        assert WORD not in shown


def test_shares_come_from_the_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    file.write_text('[shares]\n"10.0.0.0/8" = "30%"\n"::1" = 5\n"*" = "12.5%"')
    given = load(file=file).shares
    assert given == {
        "10.0.0.0/8": Share(percent=30),
        "::1/128": Share(pulls=5),
        "*": Share(percent=12.5),
    }
    monkeypatch.setenv("MIRROR_SHARES", '{"10.1.1.1": 7}')
    assert load().shares == {"10.1.1.1/32": Share(pulls=7)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"10.0.0.0/99" = 5', "10.0.0.0/99"),
        ('"runner" = 5', "none can log in"),
        ('"10.0.0.1/8" = 5', "an address, a network"),
        ('"*" = 0', "a number of pulls or a part"),
        ('"*" = "0%"', "a number of pulls or a part"),
        ('"*" = "101%"', "a number of pulls or a part"),
        ('"*" = "nan%"', "a number of pulls or a part"),
        ('"*" = true', "a number of pulls or a part"),
        ('"*" = "many"', "a number of pulls or a part"),
    ],
)
def test_a_share_that_means_nothing_is_refused(file: Path, text: str, said: str) -> None:
    file.write_text(f"[shares]\n{text}")
    line = refusal(file)
    assert "shares" in line
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pull_limit = 0", "pull_limit"),
        ("pull_window = 5", "pull_window"),
        ("reserve = 5", "reserve and reserved_for go together"),
        ('reserve = 5\nreserved_for = ["UPPER/*"]', "a pattern of repositories"),
        ('reserve = 5\nreserved_for = ["a***b"]', "a pattern of repositories"),
        ('reserve = -1\nreserved_for = ["a/*"]', "reserve"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(file: Path, text: str, said: str) -> None:
    file.write_text(f'[upstreams."docker.io"]\n{text}')
    assert said in refusal(file)


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_patterns_can_be_given_in_a_file_and_in_a_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    file.write_text(f'[upstreams."docker.io"]\n{key} = ["library/*", "org/**"]')
    assert getattr(load(file=file).upstreams["docker.io"], key) == ("library/*", "org/**")
    monkeypatch.setenv(f"MIRROR_UPSTREAMS__DOCKER_IO__{key.upper()}", "library/*, org/**")
    assert getattr(load().upstreams["docker.io"], key) == ("library/*", "org/**")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('allow = ["Library/*"]', "upstreams.docker.io.allow: not a pattern"),
        ('deny = ["a/***"]', "upstreams.docker.io.deny: not a pattern"),
        ('private = "friends"', "'nobody', 'authenticated' or 'everyone'"),
    ],
)
def test_rules_that_cannot_be_are_refused(file: Path, line: str, word: str) -> None:
    file.write_text(f'[upstreams."docker.io"]\n{line}')
    assert word in refusal(file)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("60", 60), ("2.5", 2.5), ("0", 0), ("5m", 300), ("5min", 300), ("1h30m", 5400)),
        *(("30d", 2_592_000), ("500ms", 0.5), ("1.5h", 5400), ("2w", 1_209_600), ("90 s", 90)),
    ],
)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert load({"tag_ttl": text}).tag_ttl == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("m", "5x", "5m-1s", "1e9", "-1", "m5", "5 m m", "9" * 30),
        *("\u0663", "\u0663d", "1_000", "inf", "1,5", "1h,5m", "5m 30", "0x10"),
    ],
)
def test_a_bad_duration_is_refused_with_the_form_of_a_good_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match='"5m", "1h30m", "30d"'):
        load({"tag_ttl": text})


@pytest.mark.parametrize("key", ["connect_timeout", "answer_timeout", "silence_timeout"])
def test_no_time_at_all_for_upstream_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} is 0: expected more than 0"):
        load({key: 0})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("5", 5), (" 5 GiB\n", 5 * 2**30), ("1.5KiB", 1536), ("5g", 5 * 10**9)),
        *(("50Gi", 50 * 2**30), ("64mi", 64 * 2**20), ("8 EiB", None)),
        *(("1,5GiB", None), ("1.5.5GiB", None), ("50GiB or so", None), ("10-20GB", None)),
        *(("80%", None), ("5GB.", None), ("\u0663GiB", None), ("1 000 MB", None), ("GiB", None)),
        *((10**41, None), (True, None), ("0x100", None), ("i", None), ("", None)),
    ],
)
def test_a_size_is_read_whole_or_refused(text: object, size: int | None) -> None:
    """A size read only up to its comma would make one byte of 1,5GiB."""
    if size is not None:
        assert load({"memory_cache": text}).memory_cache == size
        return
    with pytest.raises(ConfigurationError, match=r"memory_cache is .*: expected bytes, with or"):
        load({"memory_cache": text})


@pytest.mark.parametrize(
    "line",
    [
        *("max_fetches", "max_connections", "client_connections", "client_rate"),
        *(f'upstreams."docker.io".{key}' for key in ("max_connections", "pull_limit", "reserve")),
    ],
)
def test_true_is_no_number(file: Path, line: str) -> None:
    file.write_text(f"{line} = true")
    assert f"{line.replace(chr(34), '')} is True: expected a number" in refusal(file)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("10.0.0.9, 10.1.0.0/16\n", ("10.0.0.9/32", "10.1.0.0/16")),
        ('["10.0.0.9"]', ("10.0.0.9/32",)),
        ("::ffff:10.0.0.9", ("10.0.0.9/32",)),
        ("::ffff:10.0.0.0/104", ("10.0.0.0/8",)),
        ("2001:db8::/32", ("2001:db8::/32",)),
        ("::/0", ("::/0",)),
    ],
)
def test_networks_are_read_as_clients_addresses_are(given: str, read: tuple[str, ...]) -> None:
    assert load({"trusted_proxies": given}).trusted_proxies == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("10.0.0.9/8", r"10.0.0.0/8; is 10.0.0.0/8 meant\?$"),
        ("2001:db8::1/64", r"is 2001:db8::/64 meant\?$"),
        ("fe80::1%eth0", r"is fe80::1 meant\?$"),
        *((odd, "such as 10.0.0.9 or 10.0.0.0/8$") for odd in ("10", "true", "null", "*", "[::1]")),
    ],
)
def test_a_mistaken_network_is_refused_with_the_likely_form(given: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load({"trusted_proxies": given})


def test_a_share_of_an_ipv4_address_in_ipv6_is_that_of_the_ipv4_address() -> None:
    shares = load({"shares": {"::ffff:10.0.0.1": 3}}).shares
    assert shares == {"10.0.0.1/32": Share(3)}
    with pytest.raises(ConfigurationError, match=r"is 10.0.0.0/8 meant\?"):
        load({"shares": {"10.0.0.1/8": 3}})


@pytest.mark.parametrize("text", ["HTTP://a.io", "Http://a.io/"])
def test_the_scheme_of_a_url_knows_no_case(text: str) -> None:
    settings = load({"upstreams": {"a.io": {"url": text, "realms": text}}})
    assert settings.upstreams["a.io"].url == "http://a.io"
    assert settings.upstreams["a.io"].realms == ("http://a.io",)


@pytest.mark.parametrize("odd", ["?", "#", "/?", ":", "?a=b"])
@pytest.mark.parametrize("key", ["url", "realms"])
def test_a_url_ends_where_its_path_does(odd: str, key: str) -> None:
    given = {"url": "http://a.io"} | {key: f"http://a.io{odd}"}
    with pytest.raises(ConfigurationError, match=r"upstreams.a.io"):
        load({"upstreams": {"a.io": given}})


def test_patterns_of_the_reserve_are_read_as_those_of_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIRROR_UPSTREAMS__DOCKER_IO__RESERVE", "5")
    monkeypatch.setenv("MIRROR_UPSTREAMS__DOCKER_IO__RESERVED_FOR", "library/*, org/**")
    assert load().upstreams["docker.io"].reserved_for == ("library/*", "org/**")


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "10", "[1.50"])
def test_a_list_in_a_variable_is_jsons_in_brackets_alone(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", text)
    with pytest.raises(ConfigurationError, match=r"trusted_proxies \(MIRROR_TRUSTED_PROXIES\) is "):
        load()
    monkeypatch.setenv("MIRROR_TRUSTED_PROXIES", "")
    monkeypatch.setenv("MIRROR_HOST_NAMES", "1.50")
    assert load().host_names == ("1.50",)


def test_a_path_with_the_end_of_a_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path would mean another folder, which looks the same in print."""
    monkeypatch.setenv("MIRROR_DATA_DIR", "/var/lib/mirror\n")
    with pytest.raises(
        ConfigurationError, match=r"data_dir \(MIRROR_DATA_DIR\) is '/var.*n': expected a path"
    ):
        load()


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "nan%", "%", "80 percent", "80", "63MiB"])
def test_a_max_size_that_holds_no_image_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 means bytes, where the operator meant 80% or 80GiB."""
    monkeypatch.setattr(measures, "SMALLEST", 64 * 1024**2)
    with pytest.raises(ConfigurationError, match=r'at least 64.0 MiB, or a part .* "80%"'):
        load({"max_size": text})


@pytest.mark.parametrize("text", ["0%", "91%", "-5%", "nan%", "%", "50", "1GiB", 0.5, True])
def test_a_part_for_pins_is_refused_unless_it_leaves_room_for_pulls(text: object) -> None:
    expected = r'max_pinned is .*: expected a part of max_size, from "1%" to "90%"'
    with pytest.raises(ConfigurationError, match=expected):
        load({"max_pinned": text})


def test_a_part_of_a_small_file_system_is_refused_by_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures, "SMALLEST", 64 * 1024**2)
    with pytest.raises(
        ConfigurationError, match=r"max_size is '0.5%': that is .*; expected at least"
    ):
        load({"max_size": "0.5%"}).max_size.of(2**20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('port = "5000"', "port: unknown key; did you mean listen?"),
        ("max_sise = 1", "max_sise: unknown key; did you mean max_size?"),
        ('[storage]\na = "b"', "storage: unknown key; did you mean data_dir?"),
        ("zzz = 1", "zzz: unknown key; known are "),
        (
            '[upstreams.docker.io]\nurl = "http://a"',
            'upstreams.docker.io: a name with dots is quoted in a file: [upstreams."docker.io"]',
        ),
        (
            '[upstreams.registry.example.com]\nurl = "http://a"',
            "upstreams.registry.example.com: a name with dots is quoted in a file: ",
        ),
        ("clients = 3", "clients is 3: expected a table for each client: [clients.NAME] "),
        ('tls_cert = "a.pem"', "tls_cert and tls_key go together"),
        ('challenge = "maybe"', "challenge is 'maybe': expected true or false"),
        ("max_connections = 0", "max_connections is 0: expected at least 1"),
        ("max_fetches = 1.5", "max_fetches is 1.5: expected a whole number"),
        ('log_format = "xml"', "log_format is 'xml': expected 'text' or 'json'"),
    ],
)
def test_a_refusal_begins_with_its_key_and_names_the_allowed_values(
    file: Path, text: str, said: str
) -> None:
    file.write_text(text)
    assert refusal(file).startswith(said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIRROR_SERVICE_HOST", "10.0.0.1"),
        ("MIRROR_SERVICE_PORT", "5000"),
        ("MIRROR_SERVICE_PORT_HTTP", "5000"),
        ("MIRROR_PORT", "tcp://10.0.0.1:5000"),
        ("MIRROR_PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ("MIRROR_PORT_5000_TCP_PROTO", "tcp"),
        ("MIRROR_PORT_5000_TCP_PORT", "5000"),
        ("MIRROR_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("MIRROR_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("MIRROR_METRICS_PORT", "tcp://10.0.0.1:5001"),
    ],
)
def test_what_kubernetes_says_of_a_service_called_mirror_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    before = load()
    monkeypatch.setenv(name, value)
    assert load().model_dump() == before.model_dump()


def test_a_variable_that_means_another_key_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_PORT", "5000")
    with pytest.raises(ConfigurationError, match=r"MIRROR_PORT: .*did you mean MIRROR_LISTEN\?"):
        load()


@pytest.mark.parametrize("key", ["SHARES", "CLIENTS", "UPSTREAMS"])
@pytest.mark.parametrize("text", ["{p4ssword", '{"p4ssword":' * 10_000])
def test_a_variable_that_is_no_json_names_itself(
    monkeypatch: pytest.MonkeyPatch, key: str, text: str
) -> None:
    monkeypatch.setenv(f"MIRROR_{key}", text)
    with pytest.raises(ConfigurationError, match=f"MIRROR_{key}: expected JSON") as refused:
        load()
    assert "p4ssword" not in str(refused.value)


def test_a_file_begins_with_a_byte_order_mark_where_an_editor_wrote_one(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_bytes(b"\xef\xbb\xbftag_ttl = 5\n")
    assert load(file=file).tag_ttl == 5


def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text("shares = " + "[" * 10_000)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        load(file=file)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mirror_upstreams__docker_io__password", " ", "is empty"),
        ("mirror_upstream__docker_io__password", "x", "did you mean mirror_upstreams?"),
    ],
)
def test_a_secret_that_is_empty_or_misspelt_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "another-programs").write_text("")
    monkeypatch.setenv("MIRROR_SECRETS_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError) as refused:
        load()
    assert str(refused.value).startswith(name)
    assert said in str(refused.value)
