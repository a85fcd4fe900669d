"""Values as people read them."""

from __future__ import annotations

import pytest

from oikyo.desktop.figures import change, duration, short


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (59, "59 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_a_duration_reads_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("metric", "tuned", "base", "step", "better"),
    [
        ("f1_macro", "0.9", "0.6", "+0.3", True),
        ("f1_macro", "0.5", "0.6", "-0.1", False),
        ("loss", "0.5", "0.6", "-0.1", True),
        ("perplexity", "9", "8", "+1", False),
        ("loss", "1", "1", "+0", None),
        ("loss", "1", "", "", None),
    ],
)
def test_a_change_is_better_in_the_direction_of_its_metric(
    metric: str, tuned: str, base: str, step: str, better: bool | None
) -> None:
    assert change(metric, tuned, base) == (step, better)


def test_a_value_that_is_no_number_stays_as_it_is() -> None:
    assert (short("0.123456"), short("min 0.80")) == ("0.1235", "min 0.80")
