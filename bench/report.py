"""The report: the machine, a table for the terminal and for Markdown, the whole as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import mirror
from bench.figures import HUB, MIRROR, NGINX, REGISTRY, Figure

HEADINGS = ("", "unit", "mirror", "docker-registry", "nginx", "hub directly", "ratio", "bar", "")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where, with what and when it was measured."""

    cpu: str
    cores: int
    memory: str
    kernel: str
    python: str
    mirror: str
    registry: str
    wrk: str
    nginx: str
    zot: str
    others: float
    date: str

    def lines(self) -> list[str]:
        """Say it."""
        return [
            f"{self.date}, {self.cpu}, {self.cores} cores, {self.memory}, Linux {self.kernel}",
            f"other programs used {self.others:.2f} cores meanwhile",
            f"Python {self.python}, mirror {self.mirror}, {self.registry}, {self.wrk}",
            f"{self.nginx}; zot: {self.zot}",
        ]


def machine(others: float) -> Machine:
    """Describe this machine, on which others had so many cores."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory=f"{int(_field(Path('/proc/meminfo'), 'MemTotal').split()[0]) / 1024**2:.1f} GiB",
        kernel=platform.release(),
        python=platform.python_version(),
        mirror=mirror.__version__,
        registry=_version("docker-registry", "--version"),
        wrk=_version("wrk", "--version"),
        nginx=_version("nginx", "-v"),
        zot="on PATH, not measured" if shutil.which("zot") else "not on PATH, not measured",
        others=others,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


class Neighbours:
    """Watches how busy others keep the machine, to tell noise from news."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._before = _cpu_of_others()

    def cores(self) -> float:
        """Return the cores they had so far; to be asked when all we started has ended."""
        return (_cpu_of_others() - self._before) / (time.perf_counter() - self._began)


def cells(figure: Figure) -> tuple[str, ...]:
    """Write one figure for a table."""
    against = figure.bar.against if figure.bar else REGISTRY
    times = figure.times(against) if against else None
    return (
        figure.what,
        figure.unit,
        *(_number(figure.median(name)) for name in (MIRROR, REGISTRY, NGINX, HUB)),
        f"x{_number(times)}" if times is not None else "",
        str(figure.bar or ""),
        figure.verdict,
    )


def as_text(figures: Sequence[Figure]) -> str:
    """Lay the table out for a terminal."""
    rows = [HEADINGS, *map(cells, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 <= place <= 6 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_markdown(where: Machine, figures: Sequence[Figure]) -> str:
    """Write the page that is kept."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(cells, figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join(
        [
            "# The mirror beside docker-registry",
            "",
            "Written by `make bench`. The figures are medians of rounds that alternate between",
            "the mirror and docker-registry. Both pull from the same stand-in hub, and both write",
            "their logs. nginx is the limit of what a server can do here: one process with",
            "proxy_cache and its access log, before a stand-in of its own without logins and",
            "redirects. It proves nothing and knows no registry. The ratio is the mirror's median",
            "to the median of docker-registry, or to the one that the bar names.",
            "",
            *(f"{line}\n" for line in where.lines()),
            table,
            "",
            *(f"* {line}" for line in remarks(figures)),
            "",
            summary(figures),
            "",
        ]
    )


def as_json(where: Machine, figures: Sequence[Figure]) -> str:
    """Write all there is, every round."""
    documents = [
        asdict(figure)
        | {
            "verdict": figure.verdict,
            "ratio": figure.times(REGISTRY),
            "ratio_to_hub": figure.times(HUB),
        }
        for figure in figures
    ]
    return json.dumps({"machine": asdict(where), "figures": documents}, indent=2) + "\n"


def remarks(figures: Iterable[Figure]) -> list[str]:
    """Return what the table has no column for."""
    return [f"{figure.what}: {note}" for figure in figures for note in figure.notes]


def summary(figures: Iterable[Figure]) -> str:
    """Say whether every bar was reached."""
    barred = [figure for figure in figures if figure.bar]
    missed = [figure.what for figure in barred if figure.verdict == "MISSED"]
    if not missed:
        return f"All {len(barred)} bars reached."
    return f"MISSED {len(missed)} of {len(barred)} bars: {'; '.join(missed)}."


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cpu_of_others() -> float:
    """Return the CPU seconds of all but us and what we started and ended; stolen ones count."""
    user, nice, system, _, _, irq, softirq, steal, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


def _field(file: Path, name: str) -> str:
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    said = f"{done.stdout}{done.stderr}".strip().splitlines()
    return said[0].partition(" Copyright")[0] if said else command[0]
