"""Folds of other trainings than those of test_folds.py: beside general rows, and on numbers."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainSpec
from oikyo_trainer.training import folds
from unit.trainer.training.conftest import Lab, digest, number_rows, pair_rows, write_dataset
from unit.trainer.training.general import a_base_that_knows, with_general
from unit.trainer.training.test_folds import HELD, model_of, of_data, plain, same, told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def interpolated(
    lab: Lab, run: str, rows: Any, held: int, *, base: str = "", wanted: int = 0
) -> TrainSpec:
    """A training on `rows` whose weights are taken back to the base's until the bound is kept."""
    general = {"replay": "0", "maxIncrease": "0.3", "interpolation": "Auto"}
    spec = with_general(lab, run, base=base, epochs=1, general=general)
    write_dataset(lab.workspace, run, "prompt-completion", rows, validation=held)
    return spec.model_copy(update={"dataset_digest": digest(run), "folds": wanted})


def test_the_model_of_a_fold_is_taken_back_as_that_of_its_very_rows(lab: Lab) -> None:
    base, rows = a_base_that_knows(lab), told(pair_rows(112))
    lab.train(interpolated(lab, "folded", rows, HELD, base=base, wanted=1))
    every, held = plain(rows, 0)
    alone = lab.train(interpolated(lab, "plain", every, held, base=base))
    found = folds.result_of(lab.workspace / layout.stage("folded", "train"), 0)
    assert found is not None
    assert found.levers == alone.levers
    assert found.levers[0].startswith("interpolation 0."), found.levers
    assert same(model_of(lab, "folded", 0), model_of(lab, "plain", None))


def test_a_fold_of_numbers_is_learned_on_the_scale_of_all_training_rows(lab: Lab) -> None:
    rows = told(number_rows(112))
    write_dataset(lab.workspace, "folded", "regression", rows, validation=HELD)
    lab.train(of_data(lab, "TextRegression", "folded", wanted=1))
    every, held = plain(rows, 0)
    write_dataset(lab.workspace, "plain", "regression", every, validation=held)
    there, here = (lab.workspace / layout.dataset(digest(name)) for name in ("folded", "plain"))
    shutil.copy(there / layout.MANIFEST, here / layout.MANIFEST)
    lab.train(of_data(lab, "TextRegression", "plain"))
    assert same(model_of(lab, "folded", 0), model_of(lab, "plain", None))


def test_a_fold_that_holds_every_validation_row_is_trained_without(lab: Lab) -> None:
    rows = [
        {**row, "learn.fold": 0} if n < HELD else row for n, row in enumerate(told(pair_rows(112)))
    ]
    lab.train(interpolated(lab, "bare", rows, HELD, wanted=1))
    found = folds.result_of(lab.workspace / layout.stage("bare", "train"), 0)
    assert found is not None
    assert found.steps == found.best_step == found.total_steps
