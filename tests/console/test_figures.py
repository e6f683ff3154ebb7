"""The figures of the overview: those of `mirror status`, and none twice in another sense."""

from __future__ import annotations

from mirror.admin.messages import SpanFigures
from mirror.console.render.templates import load_templates

# 30 bytes were sent, 10 of them from the cache; clients that followed one download got the others.
DAY = SpanFigures("day", 86_400, 86_400, 9, 3, 0, 0, 30, 10, 5, 2, 7, 4, 0, 12)


def test_bytes_that_clients_share_while_they_arrive_are_not_downloaded() -> None:
    text = load_templates().render("overview/figures.html", figures=DAY)
    assert '<div class="figure">18 bytes</div><div>of 30 bytes not downloaded</div>' in text
    assert '<div class="figure">3</div><div>of 5 pulls not counted</div>' in text


def test_a_download_that_no_client_got_makes_no_figure_negative() -> None:
    warmed = SpanFigures("day", 86_400, 86_400, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4, 0, 12)
    assert (warmed.not_counted, warmed.not_downloaded) == (0, 0)
