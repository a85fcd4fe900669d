"""Charts drawn as text: ticks are round, thinning keeps the ends, nothing breaks on odd values."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.desktop.curves import Line, chart, smooth, thin, ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(low=NUMBERS, span=st.floats(1e-3, 1e6))
def test_ticks_cover_the_range_in_equal_round_steps(low: float, span: float) -> None:
    marks = ticks(low, low + span, 5)
    step = marks[1] - marks[0]
    assert marks[0] <= low + step * 1e-6
    assert marks[-1] >= low + span - step * 1e-6
    assert 2 <= len(marks) <= 9


def test_one_value_still_has_ticks_around_it() -> None:
    assert len(ticks(2.0, 2.0, 5)) >= 1


def test_thinning_keeps_the_first_and_last_point_and_the_mean() -> None:
    points = [(float(x), float(x % 2)) for x in range(10_000)]
    few = thin(points, 400)
    assert len(few) == 400
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert sum(y for _, y in few) / 400 == pytest.approx(0.5, abs=0.02)


def test_smoothing_a_constant_changes_nothing_not_even_at_the_start() -> None:
    assert [y for _, y in smooth([(float(x), 3.0) for x in range(5)])] == pytest.approx([3.0] * 5)


def test_a_chart_is_well_formed_and_skips_values_that_are_not_finite() -> None:
    svg = chart([Line("loss <&>", [(1, 2.0), (2, math.nan), (3, 1.0)])], "step")
    root = ElementTree.fromstring(svg)
    path = next(node.get("d") for node in root.iter("path") if "line" in node.get("class", ""))
    assert path is not None
    assert path.count("M") == 2
    assert "nan" not in svg


def test_nothing_to_draw_is_no_chart() -> None:
    assert chart([Line("loss", [])], "step") == ""
    assert chart([Line("loss", [(1, math.inf)])], "step") == ""
