"""`mirror completion`: a script that completes commands and flags in a shell."""

from __future__ import annotations

import argparse

import shtab

from mirror.cli.key_names import GROUPS, flag
from mirror.cli.parser import COMMANDS

_PLACE = ("--config", "--data-dir")
_KEYS = ("--config", "--upstream", *(flag(name) for names in GROUPS.values() for name in names))
_WARM = (*_PLACE, "-f", "--file", "--platform", "--leave", "--dry-run", "--json")
_FILES = frozenset(
    {"--config", "--file", "-f", "--ca", "--output", "--tls-cert", "--tls-key", "--client-ca"}
    | {"--htpasswd"}
)
SHELLS = ("bash", "zsh", "fish", "tcsh")
# A copy, which a test compares: the commands' modules take half a second to load.
FLAGS: dict[str, tuple[str, ...]] = {
    "serve": _KEYS,
    "check": ("--config", "--online", "--json"),
    "config": ("--config", "--json"),
    "client-config": (*_KEYS, "--url", "--ca", "--output", "--only", "--force"),
    "reload": (*_PLACE, "--json"),
    "status": (*_PLACE, "--watch", "--json"),
    "doctor": (*_PLACE, "--json"),
    "budget": (*_PLACE, "--json"),
    "du": (*_PLACE, "--json"),
    "ls": (*_PLACE, "--sort", "--limit", "--after", "--json"),
    "show": (*_PLACE, "--json"),
    "warm": _WARM,
    "pull": _WARM,
    "refresh": (*_PLACE, "--json"),
    "pin": (*_PLACE, "--json"),
    "unpin": (*_PLACE, "--json"),
    "purge": (*_PLACE, "--dry-run", "--yes", "--json"),
    "gc": (*_PLACE, "--dry-run", "--json"),
    "verify": (*_PLACE, "--dry-run", "--sample", "--rate", "--json"),
    "export": (*_PLACE, "--output", "--platform", "--force", "--json"),
    "import": (*_PLACE, "--name", "--json"),
    "healthcheck": (*_PLACE, "--ready"),
    "completion": (),
}
WORDS: dict[str, tuple[str, ...]] = {
    "client-config": (
        *("docker", "containerd", "podman", "cri-o", "buildah", "skopeo", "buildkit", "k3s"),
    ),
    "completion": SHELLS,
}


# The words that a flag takes, where these are few.
CHOICES: dict[str, tuple[str, ...]] = {
    "--proxy-protocol": ("true", "false"),
    "--challenge": ("true", "false"),
    "--log-format": ("text", "json"),
    "--log-level": ("debug", "info", "warning", "error"),
    "--sort": ("name", "bytes", "used"),
}
SWITCHES = frozenset(
    {"--dry-run", "--force", "--json", "--online", "--only", "--ready", "--watch", "--yes"}
)
_PATHS = {"import": "layout"}  # arguments that are paths, by command


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    command.add_argument("shell", choices=SHELLS, help="the shell that is to read the script")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code."""
    print(shtab.complete(_parser(), shell=options.shell))
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return a parser of all commands, which has as much of them as a script can use."""
    made = argparse.ArgumentParser(prog="mirror")
    made.add_argument("--version", action="store_true")
    commands = made.add_subparsers()
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about)
        for each in FLAGS[name]:
            _add_flag(command, each)
        if name in WORDS:
            command.add_argument("word", choices=WORDS[name])
        if name in _PATHS:
            _completed(command.add_argument(_PATHS[name]), shtab.FILE)
    return made


def _add_flag(command: argparse.ArgumentParser, name: str) -> None:
    if name in SWITCHES:
        command.add_argument(name, action="store_true")
    elif name in CHOICES:
        command.add_argument(name, choices=CHOICES[name])
    elif name == "--data-dir":
        _completed(command.add_argument(name), shtab.DIRECTORY)
    elif name in _FILES:
        _completed(command.add_argument(name), shtab.FILE)
    else:
        command.add_argument(name)


def _completed(argument: argparse.Action, by: object) -> None:
    argument.complete = by  # type: ignore[attr-defined]
