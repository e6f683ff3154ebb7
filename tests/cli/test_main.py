"""The command line: its imports, its help, and its completion."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module

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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_commands(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "max-size" in script


def test_bash_completes_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(mirror verify --ra); COMP_CWORD=2; _shtab_mirror; echo ${COMPREPLY[@]}"
    ran = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, timeout=20
    )
    assert ran.stdout.split() == ["--rate"]


def test_the_help_of_serve_has_units_defaults_and_choices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parser(["serve"]).parse_args(["serve", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "--max-size SIZE|PERCENT",
        "(default: 50GiB)",
        "--tag-ttl DURATION",
        "--log-format text|json",
        "--challenge true|false",
        "(default: 127.0.0.1:5000)",
        "pull limits:",
    ):
        assert words in told, words
