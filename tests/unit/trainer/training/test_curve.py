"""What curves show, in words."""

from __future__ import annotations

from typing import Any

import pytest

from oikyo_trainer.training.curve import read


def lines(validation: list[float], training: list[float] | None = None) -> list[dict[str, Any]]:
    """A validation every ten steps, and the training loss at each of these."""
    told = training if training is not None else [v * 0.9 for v in validation]
    return [
        {"step": 10 * number, **pair}
        for number, (seen, learned) in enumerate(zip(validation, told, strict=True), 1)
        for pair in ({"loss": learned}, {"eval_loss": seen})
    ]


FALLING = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("validation", "training", "kind", "words"),
    [
        (
            [1.0, 0.7, 0.5, 0.55, 0.6, 0.7], FALLING, "OverFitting",
            "over-fitting since step 40: the validation loss rose from 0.5 to 0.7 while the training "
            "loss went on falling; the best weights are of step 30",
        ),
        ([1.0, 0.6, 0.5, 0.5, 0.501, 0.499], [1.0, 0.6, 0.5, 0.5, 0.5, 0.5], "Converged",
         "converged: since step 50 the validation loss has stayed within 1% of 0.499"),
        ([1.0, 0.999, 0.998, 0.999, 0.998], [1.0, 0.999, 1.0, 0.998, 0.999], "Plateau", "plateau: "),
        ([1.0, 0.9, 1.4, 2.5], [1.0, 1.2, 1.9, 2.4], "Diverging", "a lower learning rate is needed"),
        (FALLING, FALLING, "StillImproving", "from 0.5 at step 40 to 0.3 at step 60, the last"),
    ],
    ids=["over-fitting", "converged", "plateau", "diverging", "still improving"],
)  # fmt: skip
def test_a_curve_is_told_in_words(
    validation: list[float], training: list[float], kind: str, words: str
) -> None:
    reading = read(lines(validation, training))
    assert reading is not None
    assert reading.kind == kind
    assert words in reading.sentence


@pytest.mark.parametrize(
    ("validation", "training"),
    [
        ([1.0, 0.5, 0.7], None),
        ([], []),
        ([1.0, 0.5, 0.6, 0.505, 0.51], [1.0, 0.6, 0.5, 0.4, 0.3]),
    ],
    ids=["too few validations", "none", "one bad validation is noise"],
)
def test_what_is_no_trend_gets_no_alarm(
    validation: list[float], training: list[float] | None
) -> None:
    reading = read(lines(validation, training))
    assert reading is None or reading.kind == "Converged"


def test_a_rising_validation_loss_alone_is_not_over_fitting() -> None:
    reading = read(lines([1.0, 0.5, 0.6, 0.7], [1.0, 0.5, 0.6, 0.7]))
    assert reading is None
