"""The scores of numbers against scikit-learn and scipy, and where there is nothing to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.classification import Question
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.number_scores import number_scores
from oikyo_trainer.evaluation.regression import ask_base_for_numbers, ask_numbers, score_numbers
from oikyo_trainer.numbers import Scale
from unit.trainer.evaluation.tiny import number_rows, save_classifier, save_encoder, save_regressor


def test_the_scores_are_those_of_the_libraries() -> None:
    random = np.random.default_rng(3)
    truth = np.round(random.normal(40, 7, 300))  # with ties
    said = truth + random.normal(1, 4, 300)
    assert number_scores(said, truth) == pytest.approx(
        {
            "r2": r2_score(truth, said),
            "rmse": root_mean_squared_error(truth, said),
            "mae": mean_absolute_error(truth, said),
            "pearson": pearsonr(said, truth).statistic,
            "spearman": spearmanr(said, truth).statistic,
        }
    )


@pytest.mark.parametrize(
    ("said", "truth"), [([5, 5, 5], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1])]
)
def test_a_constant_explains_nothing(said: list[float], truth: list[float]) -> None:
    scores = number_scores(said, truth)
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["pearson"] == scores["spearman"] == 0
    assert scores["r2"] <= 0


def test_the_base_is_a_ridge_on_frozen_features_or_its_own_head(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder")
    save_regressor(tmp_path / "own", Scale(7, 4))
    rows = number_rows("train")
    known = [row for place, row in enumerate(rows) if place % 4]
    question = Question(rows[::4], (), Reading(64))
    told: list[float] = []
    said, how = ask_base_for_numbers(tmp_path / "encoder", known, question, told.append)
    assert "under a ridge regression fitted on 33 rows" in how
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    assert score_numbers(said, question, Scale(7, 4))["r2"] > 0.3
    assert said.min() >= 0
    assert said.max() <= 14
    own, how = ask_base_for_numbers(tmp_path / "own", known, question, told.append)
    assert how == "the base model's own head, which says numbers"
    assert own == pytest.approx(ask_numbers(tmp_path / "own", question, told.append))
    scores = score_numbers(own, question, Scale(7, 4))
    assert scores["loss"] == pytest.approx((scores["rmse"] / 4) ** 2)


def test_a_model_without_a_scale_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path / "model", steps=0)
    question = Question(number_rows("test"), (), Reading(64))
    with pytest.raises(Refused, match="does not say on which scale"):
        ask_numbers(tmp_path / "model", question, lambda _: None)
