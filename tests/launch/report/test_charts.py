"""Charts: inside the frame, round ticks, nothing unescaped."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.report.charts import colour, downsample, line_chart, ticks

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.tuples(numbers, numbers), min_size=1), min_size=1))
def test_every_point_lies_within_the_frame(series: Any) -> None:
    root = ElementTree.fromstring(line_chart(series, "x", "t"))  # noqa: S314 - our own text
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in root.iter("polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


@given(numbers, numbers, st.integers(3, 8))
def test_ticks_cover_the_range_evenly(a: Any, b: Any, most: Any) -> None:
    low, high = sorted((a, b))
    found = ticks(low, high, most)
    steps = [after - before for before, after in pairwise(found)]
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 2 * most + 2
    assert all(math.isclose(step, steps[0], rel_tol=1e-3, abs_tol=slack) for step in steps)


def test_ticks_are_round() -> None:
    assert ticks(0.0, 0.93, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


@given(st.lists(st.tuples(numbers, numbers), max_size=1000), st.integers(1, 50))
def test_thinning_keeps_the_mean_within_bounds(points: Any, most: Any) -> None:
    kept = downsample(points, most)
    assert len(kept) == min(len(points), most)
    for _, y in kept:
        assert min(p[1] for p in points) - 1e-6 <= y <= max(p[1] for p in points) + 1e-6


def test_thinning_a_constant_gives_the_constant() -> None:
    assert {y for _, y in downsample([(float(x), 3.0) for x in range(1000)], 10)} == {3.0}


def test_nothing_finite_is_no_chart() -> None:
    assert line_chart({"a": [(0.0, math.nan)], "b": []}, "x", "t") == ""


def test_rounds_have_no_halves() -> None:
    drawn = line_chart({"a": [(1.0, 0.1), (2.0, 0.2), (3.0, 0.3)]}, "round", "t")
    assert [float(mark) for mark in re.findall(r'text-anchor="middle">([^<]+)<', drawn)] == [1, 2, 3]


def test_names_are_escaped() -> None:
    drawn = line_chart({"<script>": [(0.0, 1.0)]}, "<x>", '"t"')
    assert "<script>" not in drawn
    assert ElementTree.fromstring(drawn).attrib["aria-label"] == '"t"'  # noqa: S314 - our own text


def test_colours_repeat_after_the_last() -> None:
    assert len({colour(number) for number in range(8)}) == 8
    assert colour(8) == colour(0)
