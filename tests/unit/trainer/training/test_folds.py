"""Weights and folds: the same bits as trainings on the very rows, kill or no kill, alone or in a gang."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult, TrainSpec
from oikyo_trainer.progress import Reporter
from oikyo_trainer.training import folds
from oikyo_trainer.training.tokenfiles import TokenRows
from unit.trainer.training.conftest import (
    Lab,
    classification_rows,
    digest,
    metrics,
    pair_rows,
    write_dataset,
)
from unit.trainer.training.processes import gang, in_child, killed_at

SETTINGS: dict[str, Any] = {"method": "Full", "epochs": 1, "learning_rate": "3e-3"}
HELD = 16
"""Rows that validate."""


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a fold and, those that train, how often an epoch shows them."""
    return [
        {**row, "learn.fold": n % 3, "learn.times": 1 if n < HELD else 1 + n % 2}
        for n, row in enumerate(rows)
    ]


def plain(rows: list[dict[str, Any]], fold: int | None) -> tuple[list[dict[str, Any]], int]:
    """What a training without the fold learns, row by row, and how many of the first ones validate."""
    kept = [row for row in rows if row["learn.fold"] != fold]
    names = [name for name in rows[0] if not name.startswith("learn.")]
    held = sum(row["learn.fold"] != fold for row in rows[:HELD])
    every = [{name: row[name] for name in names} for row in kept for _ in range(row["learn.times"])]
    return every, held


def trained(lab: Lab, task: str, name: str, rows: Any, held: int, **more: Any) -> TrainResult:
    shape = "classification" if task == "TextClassification" else "prompt-completion"
    write_dataset(lab.workspace, name, shape, rows, validation=held)
    return lab.train(of_data(lab, task, name, **more))


def of_data(
    lab: Lab, task: str, name: str, *, wanted: int = 0, attempt: int = 1, **more: Any
) -> TrainSpec:
    spec = lab.spec(task, run=name, attempt=attempt, **SETTINGS, **more)
    return spec.model_copy(update={"dataset_digest": digest(name), "folds": wanted})


def model_of(lab: Lab, run: str, fold: int | None) -> dict[str, Any]:
    from safetensors.torch import load_file

    stage = lab.workspace / layout.stage(run, "train")
    folder = stage if fold is None else folds.folder_of(stage, fold)
    return load_file(folder / "model" / "model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_every_training_is_the_one_on_its_very_rows(lab: Lab, task: str) -> None:
    rows = told(classification_rows(112) if task == "TextClassification" else pair_rows(112))
    result = trained(lab, task, "folded", rows, HELD, wanted=2)
    assert metrics(result)["folds_trained"] == 2
    for fold in (1, None):
        every, held = plain(rows, fold)
        trained(lab, task, f"plain-{fold}", every, held)
        assert same(model_of(lab, "folded", fold), model_of(lab, f"plain-{fold}", None))
    assert not same(model_of(lab, "folded", 0), model_of(lab, "folded", 1))
    stage = lab.workspace / layout.stage("folded", "train")
    assert not list(stage.glob("folds/*/checkpoints")), "the folds' checkpoints are in the way"


def test_an_adapter_of_a_fold_is_not_merged(lab: Lab) -> None:
    rows = told(classification_rows(112))
    write_dataset(lab.workspace, "lora", "classification", rows, validation=HELD)
    spec = of_data(lab, "TextClassification", "lora", wanted=2).model_copy(
        update={"training": lab.spec("TextClassification", epochs=1).training}
    )
    result = lab.train(spec)
    stage = lab.workspace / layout.stage("lora", "train")
    assert (lab.workspace / result.model_path / "model.safetensors").exists()
    assert not (folds.folder_of(stage, 0) / "model" / "model.safetensors").exists()
    assert (folds.folder_of(stage, 0) / "model" / "adapter_model.safetensors").exists()


def test_steps_and_percent_never_fall(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from oikyo_trainer.context import Context
    from oikyo_trainer.training.train import train

    write_dataset(lab.workspace, "seen", "classification", told(classification_rows(112)))
    spec = lab.tokenised(of_data(lab, "TextClassification", "seen", wanted=2))
    reporter, remembered, seen = Reporter("train", 1, "seen"), list[Any](), list[Any]()
    own = reporter.update

    def update(**values: Any) -> None:
        own(**values)
        seen.append((reporter.current.step or 0, reporter.current.progress_percentage))

    monkeypatch.setattr(reporter, "update", update)
    result = train(spec, Context(lab.workspace, reporter, remember=remembered.append))
    assert seen == sorted(seen)
    assert reporter.current.step == reporter.current.total_steps == 3 * result.total_steps
    assert reporter.current.progress_percentage == 100
    assert remembered == sorted(remembered)
    assert max(remembered) > 2 * result.total_steps


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kill_resumes_in_the_fold_it_was_in(lab: Lab) -> None:
    rows = told(classification_rows(112))
    every: dict[str, Any] = {"checkpoints": {"every_steps": 2, "keep": 2}}
    trained(lab, "TextClassification", "whole", rows, HELD, wanted=2, **every)
    write_dataset(lab.workspace, "cut", "classification", rows, validation=HELD)
    stage = lab.workspace / layout.stage("cut", "train")
    second = folds.folder_of(stage, 1) / folds.CHECKPOINTS
    spec = of_data(lab, "TextClassification", "cut", wanted=2, **every)
    assert not in_child(lab, spec, partial(killed_at, second, f"checkpoint-*/{layout.MANIFEST}"))
    done = folds.folder_of(stage, 0) / layout.RESULT
    before = done.stat().st_mtime_ns
    assert in_child(lab, spec.model_copy(update={"attempt": 2}))
    assert done.stat().st_mtime_ns == before, "the first fold was trained again"
    resumed = folds.result_of(stage, 1)
    assert resumed is not None
    assert metrics(resumed)["resumed_from_step"] > 0
    for fold in (0, 1, None):
        assert same(model_of(lab, "cut", fold), model_of(lab, "whole", fold))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_gang_trains_the_folds(lab: Lab) -> None:
    write_dataset(lab.workspace, "gang", "classification", told(classification_rows(112)))
    result = gang(lab, of_data(lab, "TextClassification", "gang", wanted=2))
    assert metrics(result)["folds_trained"] == 2
    stage = lab.workspace / layout.stage("gang", "train")
    assert all((folds.folder_of(stage, fold) / "model/config.json").exists() for fold in (0, 1))


def test_rows_are_taken_without_copying_tokens(tmp_path: Path) -> None:
    tokens, ends = np.arange(10, dtype=np.int32), np.array([3, 5, 10])
    marks, labelled = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1]), np.array([2, 1, 3])
    rows = TokenRows(tokens, marks, ends, labelled)
    taken = rows.take(np.array([2, 0, 2]))
    assert [taken[n]["input_ids"].tolist() for n in range(3)] == [
        [5, 6, 7, 8, 9],
        [0, 1, 2],
        [5, 6, 7, 8, 9],
    ]
    assert taken.lengths.tolist() == [5, 3, 5]
    assert taken.labelled.tolist() == [3, 2, 3]
    assert len(rows) == 3
