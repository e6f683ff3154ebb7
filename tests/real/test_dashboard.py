"""Grafana's dashboard against a Prometheus that scrapes the mirror: its panels show figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.project.test_dashboard import expressions
from tests.standin import Hub, Image
from tests.support.ports import free_port

from .engines import Engine
from .mirrors import Mirror
from .processes import Command, Process, answers, environment, needs, read

APP = "library/app"
CONFIG = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: mirror
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
# Here nothing is evicted, served stale or done by operators, the pulls last, and there is no TLS.
_EMPTY = ("86400 > 0", "stale_serves", "< +Inf", "certificate_end", "operator_actions")


class Prometheus:
    """A Prometheus on `port`, which scrapes each second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    @property
    def is_ready(self) -> bool:
        """Whether it answers questions."""
        return answers(f"{self._url}/-/ready")

    def values(self, question: str) -> list[float]:
        """Return the values of a question, now; raises OSError for an invalid one."""
        answer: Any = json.loads(read(f"{self._url}/api/v1/query?query={quote(question)}"))
        return [float(each["value"][1]) for each in answer["data"]["result"]]

    def says(self, question: str, value: float) -> bool:
        """Tell whether this is the only value of a question."""
        return self.values(question) == [value]


@contextmanager
def watching(port: int, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes the mirror on `port`."""
    (folder / "prometheus.yml").write_text(CONFIG.format(port=port))
    own = free_port()
    words: Command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    words += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{own}"]
    process = Process(words, environment(folder), folder / "log")
    try:
        prometheus = Prometheus(own)
        process.until(lambda: prometheus.is_ready)
        yield prometheus
    finally:
        process.stop()


@pytest.mark.parametrize("engine", ["skopeo"], indirect=True)
async def test_each_panel_of_the_dashboard_shows_a_figure(
    engine: Engine, hub: Hub, mirror: Mirror, port: int, image: Image, tmp_path: Path
) -> None:
    needs("prometheus")
    hub.terms.limit = 100
    hub.add(image, APP, "1")
    with watching(port, tmp_path) as prometheus:
        for pulls in (1, 2, 3):  # a rate wants two scrapes
            await engine.pull(APP, "1")
            await engine.forget(APP, "1")
            await mirror.until(partial(prometheus.says, "sum(mirror_pulls_asked_total)", pulls))
        questions = expressions()
        found = [await asyncio.to_thread(prometheus.values, each) for each in questions]
    empty = [each for each, values in zip(questions, found, strict=True) if not values]
    assert not [each for each in empty if not any(part in each for part in _EMPTY)]
