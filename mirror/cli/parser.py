"""The parser: of all commands, only the typed one is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

import mirror

# The commands, in the order of the help. A command's module has its name, with `add`,
# which adds its arguments to a parser, and `run`, which takes these and returns an exit code.
COMMANDS = {
    "serve": "run the mirror",
    "check": "find the faults of the configuration, and upstreams that do not answer",
    "config": "print the configuration in force, with the source of each value",
    "client-config": "write the files that a client needs to use this mirror",
    "reload": "have the running mirror read its configuration again",
    "status": "print the state of the mirror on one screen, once or continuously",
    "doctor": "check everything that may be wrong, and say what to do about it",
    "budget": "print the pulls left, their spenders, and a forecast",
    "du": "print the use of the disk, by repository and image",
    "ls": "list the stored images",
    "show": "print an image or a repository: tags, platforms, layers",
    "warm": "store images before clients request them",
    "pull": "the same as warm",
    "refresh": "ask upstream about tags now",
    "pin": "keep images from eviction, and their tags fresh",
    "unpin": "let pinned images be evicted again",
    "purge": "remove an image, a repository, or content by its digest",
    "gc": "remove useless files, and evict content down to max_size",
    "verify": "hash stored files again, and discard damaged ones",
    "export": "write stored images as an OCI layout, a folder or a tar archive",
    "import": "store the images of an OCI layout, each proven by its digest",
    "healthcheck": "check that the mirror runs, for containers and supervisors",
    "completion": "print a script that completes commands and flags in a shell",
}


class Parser(argparse.ArgumentParser):
    """A parser with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error, with a hint at the help, and exit with 2."""
        self.exit(2, f"mirror: {message}; see `{self.prog} --help`\n")


def typed(words: Sequence[str]) -> str:
    """Return the command of a command line, "" if there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def module_name(command: str) -> str:
    """Return the name of a command's module: no module can be named `import`."""
    name = command.replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def parser(words: Sequence[str]) -> Parser:
    """Return the parser for a command line; only its own command has arguments."""
    made = Parser(prog="mirror", description=mirror.__doc__, allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"mirror {mirror.__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    command = typed(words)
    for name, about in COMMANDS.items():
        each = commands.add_parser(name, help=about, allow_abbrev=False)
        if name == command:
            module = import_module(f"mirror.cli.commands.{module_name(name)}")
            module.add(each)
            each.set_defaults(run=module.run)
            each.description = each.description or f"{about[0].upper()}{about[1:]}."
    return made
