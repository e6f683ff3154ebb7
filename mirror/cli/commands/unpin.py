"""`mirror unpin`: lets images be evicted again."""

from __future__ import annotations

import argparse

from mirror.admin.messages import UnpinOrder
from mirror.cli.pinned import add_images, run_order


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_images(command)


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if an image was refused."""
    return run_order(options, UnpinOrder(tuple(options.images)))
