"""`mirror pin`: keeps images from eviction, and their tags fresh."""

from __future__ import annotations

import argparse

from mirror.admin.messages import PinOrder
from mirror.cli.pinned import add_images, run_order


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    add_images(command)


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if an image was refused."""
    return run_order(options, PinOrder(tuple(options.images)))
