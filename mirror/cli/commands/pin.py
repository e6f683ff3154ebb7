"""`mirror pin`: keeps images from eviction, and their tags fresh."""

from __future__ import annotations

import argparse

from mirror.admin.messages import PinOrder
from mirror.cli.orders import BESIDE
from mirror.cli.pinned import add_images, run_order


def add(command: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    example = "`mirror pin nginx` pins one tag, nginx:latest, and no other of the repository."
    add_images(command, f"{BESIDE} {example}")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit code: 1 if an image was refused."""
    return run_order(options, PinOrder(tuple(options.images)))
