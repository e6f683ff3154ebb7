"""`mirror pull`: the other name of `mirror warm`."""

from __future__ import annotations

from mirror.cli.commands.warm import add, run

__all__ = ["add", "run"]
