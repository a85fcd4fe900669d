"""Two versions on the same test rows: what differs, and whether chance explains it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from oikyo.api import workspace as layout
from oikyo_trainer.evaluation import compare
from oikyo_trainer.evaluation.paired import difference, discordant, macro_f1
from oikyo_trainer.evaluation.record import RecordLineage, VersionRecord
from oikyo_trainer.evaluation.release import release
from oikyo_trainer.numbers import Scale
from unit.trainer.evaluation.tiny import save_causal, save_classifier, save_regressor, write_dataset


def version(workspace: Path, name: str, model: Path, task: str, dataset: str) -> str:
    digest = "sha256:" + "1" * 64
    lineage = RecordLineage(
        job="job", job_uid="uid", run=name, attempt=1, input_digest=digest, base="hf://org/base",
        base_digest=digest, dataset_digest=dataset,
    )  # fmt: skip
    draft = VersionRecord.model_validate(
        {"model": name, "task": task, "verdict": "Accepted", "max_length": 64, "metrics": (),
         "baseline": (), "baseline_method": "nothing", "gates": (), "rows": 1, "lineage": lineage,
         "created": "2026-11-23T21:00:00Z"}
    )  # fmt: skip
    record = release(workspace, model, draft, min_version=1)
    return layout.version(record.model, record.version).as_posix()


def told(workspace: Path, one: str, other: str, capsys: Any, *more: str) -> tuple[int, str]:
    arguments = ["--workspace", str(workspace), "--one", "with", one, "--other", "without", other]
    code = compare.main([*arguments, *more])
    out = capsys.readouterr()
    return code, out.out + out.err


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    workspace = tmp_path_factory.mktemp("workspace")
    dataset = write_dataset(workspace, "classification")
    folders = []
    for name, steps in (("trained", 60), ("untrained", 0)):
        save_classifier(workspace / name, steps=steps)
        folders.append(version(workspace, name, workspace / name, "TextClassification", dataset))
    return workspace, folders[0], folders[1]


def test_a_trained_model_beats_an_untrained_one_by_more_than_chance(
    classifiers: tuple[Path, str, str], capsys: Any
) -> None:
    workspace, trained, untrained = classifiers
    code, page = told(workspace, trained, untrained, capsys)
    assert code == 0
    assert "with has the better accuracy, by more than chance" in page
    code, body = told(workspace, untrained, trained, capsys, "--json")
    report = json.loads(body)
    accuracy = report["differences"][0]
    assert (accuracy["name"], accuracy["by_chance"]) == ("accuracy", False)
    assert accuracy["one"] < accuracy["other"]
    assert report["mcnemar"]["p"] < 0.05


def test_a_model_does_not_differ_from_itself(
    classifiers: tuple[Path, str, str], capsys: Any
) -> None:
    workspace, trained, _ = classifiers
    _, page = told(workspace, trained, trained, capsys)
    assert "the difference in accuracy may be chance" in page
    assert "0 rows only with has right, 0 only without" in page
    assert page.count("may be chance") == 4


def test_other_test_rows_are_refused(classifiers: tuple[Path, str, str], capsys: Any) -> None:
    workspace, trained, _ = classifiers
    digest = "sha256:" + "5" * 64
    folder = workspace / layout.dataset(digest)
    folder.mkdir(parents=True)
    row = pa.Table.from_pylist([{"text": "some cat", "label": "animal"}])
    for split in ("train", "validation", "test"):
        pq.write_table(row, folder / f"{split}.parquet")
    labels = {"shape": "classification", "labels": ["animal", "fruit", "tool"]}
    (folder / layout.MANIFEST).write_text(json.dumps(labels))
    other = version(workspace, "else", workspace / "trained", "TextClassification", digest)
    code, said = told(workspace, trained, other, capsys)
    assert code == 64
    assert "are not the same" in said


def test_language_models_are_compared_by_the_loss_of_each_row(tmp_path: Path, capsys: Any) -> None:
    dataset = write_dataset(tmp_path, "messages")
    folders = []
    for seed in (1, 2):
        save_causal(tmp_path / f"m{seed}", seed=seed, chat=True)
        folders.append(
            version(tmp_path, f"m{seed}", tmp_path / f"m{seed}", "TextGeneration", dataset)
        )
    code, body = told(tmp_path, folders[0], folders[1], capsys, "--json")
    assert code == 0
    (loss,) = json.loads(body)["differences"]
    assert loss["low"] < loss["one"] - loss["other"] < loss["high"]


def test_macro_f1_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    truth, guess = draw.integers(0, 5, 200), draw.integers(0, 7, 200)
    expected = f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)
    assert macro_f1(truth, guess, 7) == pytest.approx(expected)


def test_mcnemar_is_the_exact_binomial() -> None:
    one = np.array([True] * 9 + [False] * 2 + [True] * 30)
    other = np.array([False] * 9 + [True] * 2 + [True] * 30)
    apart = discordant(one, other)
    assert (apart.one, apart.other) == (9, 2)
    assert apart.p == pytest.approx(2 * binom.cdf(2, 11, 0.5))


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(3), 0
    for _ in range(60):
        values = draw.normal(0.1, 1.0, 120)

        def metric(chosen: Any, values: Any = values) -> tuple[float, float]:
            return float(values[chosen].mean()), 0.0

        found = difference("mean", 120, metric, higher_is_better=True)
        held += found.low <= 0.1 <= found.high
    assert held >= 51  # of 60 at 95 %, less than one chance in 2000 to be below


def test_numbers_are_compared_by_their_errors(tmp_path: Path, capsys: Any) -> None:
    dataset = write_dataset(tmp_path, "regression")
    folders = []
    for name, bias in (("near", 0.0), ("far", 5.0)):
        save_regressor(tmp_path / name, Scale(7, 4), bias=bias)
        folders.append(version(tmp_path, name, tmp_path / name, "TextRegression", dataset))
    code, body = told(tmp_path, *folders, capsys, "--json")
    assert code == 0
    report = json.loads(body)
    found = {item["name"]: item for item in report["differences"]}
    assert list(found) == ["r2", "rmse", "mae", "spearman"]
    assert report["mcnemar"] is None
    assert found["rmse"]["one"] < found["rmse"]["other"]
    assert not found["rmse"]["by_chance"]
    assert found["spearman"]["low"] == found["spearman"]["high"] == 0  # a bias moves no rank
    _, page = told(tmp_path, *folders, capsys)
    assert "with has the better r2, by more than chance" in page
