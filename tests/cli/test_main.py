"""The command line: its imports, its help, and its completion."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.cli.commands import completion
from mirror.cli.key_names import GROUPS, TABLES
from mirror.cli.parser import COMMANDS, module_name, parser
from mirror.client_config.clients import CLIENTS
from mirror.settings import Settings

HEAVY = {"aiohttp", "asyncio", "pydantic", "sqlite3", "ssl"}
# The daemon's parts, which a command does not use if a mirror runs.
PARTS = {
    "aiohttp",
    "aiosqlite",
    "mirror.admin.service",
    "mirror.storage.store",
    "mirror.app.daemon",
}


def loaded(*arguments: str) -> set[str]:
    """Run a command; returns the modules that it loaded."""
    program = (
        "import sys\nfrom mirror.cli import main\n"
        "try:\n main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return set(ran.stderr.split())


def command_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    made = parser([name])
    [commands] = [each for each in made._actions if isinstance(each, argparse._SubParsersAction)]
    found = commands.choices[name]
    assert isinstance(found, argparse.ArgumentParser)
    return found


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("completion", "bash"), ("nonsense",)]
)
def test_what_needs_no_configuration_loads_none_of_it(arguments: tuple[str, ...]) -> None:
    """Such a command takes 0.1 s of CPU instead of 0.5 s."""
    assert not loaded(*arguments) & HEAVY


@pytest.mark.parametrize(
    "name", ["du", "budget", "gc", "purge", "verify", "reload", "export", "import"]
)
def test_an_order_loads_no_part_of_the_daemon_that_carries_it_out(name: str) -> None:
    assert not loaded(name, "--help") & PARTS


def test_every_key_has_its_place_in_the_help() -> None:
    named = [name for names in GROUPS.values() for name in names]
    assert sorted([*named, *TABLES]) == sorted(Settings.model_fields)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_completion_knows_each_flag_and_word_of_a_command(name: str) -> None:
    flags, words = set[str](), list[str]()
    for action in command_of(name)._actions:
        flags.update(action.option_strings)
        words += action.choices or () if not action.option_strings else ()
    assert flags - {"-h", "--help"} == set(completion.FLAGS[name])
    assert tuple(words) == completion.WORDS.get(name, ())


def test_each_command_has_a_module() -> None:
    for name in COMMANDS:
        module = import_module(f"mirror.cli.commands.{module_name(name)}")
        assert callable(module.add)
        assert callable(module.run)
    assert completion.WORDS["client-config"] == tuple(CLIENTS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_completion_knows_the_values_of_flags(name: str) -> None:
    for action in command_of(name)._actions:
        for flag in set(action.option_strings) - {"-h", "--help"}:
            named = str(action.metavar or "").split("|")
            few = action.choices or (named if len(named) > 1 and named[0].islower() else ())
            assert tuple(few) == completion.CHOICES.get(flag, ()), flag
            assert (action.nargs == 0) == (flag in completion.SWITCHES), flag


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_completion_script_names_the_commands(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script_for(shell, capsys)
    assert all(name in script for name in COMMANDS)
    assert "max-size" in script


def script_for(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the script for a shell."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_its_shell_takes_a_completion_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / "script"
    file.write_text(script_for(shell, capsys))
    ran = subprocess.run(
        [shell, "-n", file], capture_output=True, text=True, check=False, timeout=20
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("verify --ra", ["--rate"]),
        ("imp", ["import"]),
        ("ls --sort b", ["bytes"]),
        ("serve --log-format j", ["json"]),
        ("export --output images.t", ["images.tar"]),
        ("import images.t", ["images.tar"]),
        ("doctor --data-dir da", ["data"]),
    ],
)
def test_bash_completes_commands_flags_values_and_paths(
    typed: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images.tar").touch()
    (tmp_path / "data").mkdir()
    words = ["mirror", *typed.split()]
    ask = (
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        "_shtab_mirror; echo ${COMPREPLY[@]}"
    )
    ran = subprocess.run(
        ["bash", "-c", f"{script_for('bash', capsys)}\n{ask}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        cwd=tmp_path,
    )
    assert ran.stdout.split() == offered


def test_the_help_of_client_config_is_short_and_names_serve(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The keys of the configuration are accepted there, and explained by `mirror serve --help`."""
    with pytest.raises(SystemExit):
        parser(["client-config"]).parse_args(["client-config", "--help"])
    told = capsys.readouterr().out
    assert "mirror serve" in told
    assert "--max-size" not in told
    assert len(told.splitlines()) < 25


def test_the_help_of_serve_has_units_defaults_and_choices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parser(["serve"]).parse_args(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "--max-size SIZE|PERCENT",
        "(default: 50GiB)",
        "(default: 2592000: 30 d)",
        "--tag-ttl DURATION",
        "--log-format text|json",
        "--challenge true|false",
        "(default: 127.0.0.1:5000)",
        "pull limits:",
    ):
        assert words in told, words
