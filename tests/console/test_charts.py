"""Charts: the lines and bars that are drawn, and the values that are left out."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from mirror.console.render.charts import Axis, Bars, ChartLine, ceiling, chart

AXIS = Axis(0, 100)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(*parts: ChartLine | Bars, title: str = "title", description: str = "words") -> ET.Element:
    text = str(chart("name", title, description, *parts, axis=AXIS, most=100))
    return ET.fromstring(text)


def lines(svg: ET.Element) -> list[list[str]]:
    return [each.attrib["points"].split() for each in svg.iter("polyline")]


def test_a_gap_in_the_values_is_a_gap_in_the_line() -> None:
    values = [(0.0, 10.0), (25.0, 20.0), (50.0, None), (75.0, 30.0), (100.0, 40.0)]
    runs = lines(drawn(ChartLine("first", values, area=True)))
    assert [len(run) for run in runs] == [2, 2]


def test_a_value_between_two_gaps_is_visible() -> None:
    [run] = lines(drawn(ChartLine("first", [(10.0, None), (20.0, 50.0), (30.0, None)])))
    assert len(set(run)) == 2


@pytest.mark.parametrize("value", [-5.0, 0.0, 100.0, 1e9])
def test_no_value_is_drawn_outside_the_chart(value: float) -> None:
    svg = drawn(ChartLine("first", [(-50.0, value), (500.0, value)]))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for run in lines(svg):
        for x, y in (map(float, spot.split(",")) for spot in run):
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_bars_of_nothing_are_not_drawn() -> None:
    svg = drawn(Bars(10, [(0, 0, 0), (10, 3, 0), (20, 2, 5)]))
    styles = [each.attrib["class"] for each in svg.iter("rect")]
    assert styles == ["bar-first", "bar-first", "bar-second"]


def test_a_chart_is_described_for_people_who_cannot_see_it() -> None:
    svg = drawn(title='<b>"&', description="</desc><script>")
    assert svg.attrib["role"] == "img"
    named = svg.attrib["aria-labelledby"].split()
    found = {each.attrib["id"]: each.text for each in svg if "id" in each.attrib}
    assert [found[name] for name in named] == ['<b>"&', "</desc><script>"]


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (0.2, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (10, 10), (11, 20), (450, 500)],
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert ceiling(value) == top


def test_a_chart_has_no_style_that_its_policy_refuses() -> None:
    text = str(chart("n", "t", "d", ChartLine("first", [(0, 1), (9, 2)]), axis=AXIS, most=2))
    assert not re.search(r"style=|<style|<script|on\w+=|href", text)
