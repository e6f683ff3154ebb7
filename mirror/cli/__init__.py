"""The command line: runs one command; each command is a module."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from mirror.app import deferred_signals
from mirror.cli.parser import parser, typed
from mirror.util.command_error import CommandError

FAILED = 2  # exit code: the configuration, the data folder or the arguments cannot be used
_INTERRUPTED = 128 + signal.SIGINT
_CUT = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parsed(words)
    try:
        code: int = options.run(options)
    except CommandError as error:
        print(f"mirror: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT
    return code


def _parsed(words: list[str]) -> argparse.Namespace:
    """Load the typed command, and parse its arguments."""
    if typed(words) != "serve":
        return parser(words).parse_args(words)
    # Until its loop handles them: loading its modules takes a third of a second.
    deferred_signals.defer()
    from mirror.app import quick_load

    with quick_load.loading():
        return parser(words).parse_args(words)
