"""Folds are measured on their own rows; mean and spread reach record, gates and result."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.classification import Question, ask_classifier, score
from oikyo_trainer.evaluation.crossvalidation import spread
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.evaluation.record import FoldRecord, read_record
from oikyo_trainer.evaluation.rows import open_dataset
from oikyo_trainer.evaluation.several import ask_sets, score_sets
from unit.trainer.evaluation.tiny import LABELS, Bench, classification_rows, save_classifier

FOLDS = 3


def folded(bench: Bench, models: Path) -> Path:
    """The bench with folds: good models for the first two, one that mixes its classes up for the last."""
    folder = bench.workspace / layout.dataset(bench.dataset)
    for split in ("train", "validation"):
        rows = pq.read_table(folder / f"{split}.parquet").to_pylist()
        rows = [{**row, "learn.fold": n % FOLDS} for n, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    root = bench.tuned.parent / "folds"
    kind = "classifier" if bench.shape == "classification" else "causal-a"
    for fold in range(FOLDS):
        shutil.copytree(models / kind, root / str(fold) / "model")
    if bench.shape == "classification":
        save_classifier(root / "2" / "model", LABELS)
        path = root / "2" / "model" / "config.json"
        config = json.loads(path.read_text())
        names = [*LABELS[1:], LABELS[0]]
        config["id2label"] = {str(n): name for n, name in enumerate(names)}
        config["label2id"] = {name: n for n, name in enumerate(names)}
        path.write_text(json.dumps(config))
    return root


def spec(bench: Bench, *gates: dict[str, Any], **more: Any) -> Any:
    asked = {"max_new_tokens": 6, "cross_validation": {"folds": FOLDS}, "gates": gates, **more}
    return bench.spec(evaluation=asked)


def f1_of(model: Path, rows: list[dict[str, Any]]) -> float:
    question = Question(rows, LABELS, Reading(64))
    return score(ask_classifier(model, question, lambda _: None), question)["f1_macro"]


def values(metrics: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in metrics}


def test_each_model_is_measured_on_its_own_rows(bench: Bench, models: Path) -> None:
    root = folded(bench, models)
    rows: dict[int, list[dict[str, Any]]] = {}
    for split in ("train", "validation"):
        path = bench.workspace / layout.dataset(bench.dataset) / f"{split}.parquet"
        for row in pq.read_table(path).to_pylist():
            rows.setdefault(row.pop("learn.fold"), []).append(row)
    expected = [f1_of(root / str(fold) / "model", rows[fold]) for fold in range(FOLDS)]
    assert expected[2] < 0.5 < expected[0]
    gate = {"metric": "f1_macro", "min": "0.99", "of": "CrossValidation"}
    result = evaluate(spec(bench, gate), bench.context)
    told = values(result.metrics)
    assert told["f1_macro_cv_mean"] == pytest.approx(statistics.fmean(expected), abs=1e-5)
    assert told["f1_macro_cv_std"] == pytest.approx(statistics.stdev(expected), abs=1e-5)
    assert told["f1_macro_cv_min"] == pytest.approx(min(expected), abs=1e-5)
    assert told["f1_macro_cv_max"] == pytest.approx(max(expected), abs=1e-5)
    released = f1_of(bench.workspace / result.path, classification_rows("test"))
    assert told["f1_macro"] == pytest.approx(released, abs=1e-5)
    (judged,) = result.gates
    assert not result.accepted
    assert judged.rule == "min 0.99, mean of the folds"
    assert float(judged.value) == told["f1_macro_cv_mean"]
    assert not any(name.endswith("_cv_mean") for name in values(result.baseline))
    record = read_record(bench.workspace / result.path)
    assert record is not None
    assert [fold.rows for fold in record.folds] == [len(rows[fold]) for fold in range(FOLDS)]
    assert len(result.json_line()) < 3000, "last words have 4096 bytes"
    assert not list(root.glob("*/model")), "the models of the folds are in the way"
    assert evaluate(spec(bench, gate), bench.context) == result


@pytest.mark.parametrize("bench", ["messages"], indirect=True)
def test_generators_have_folds_too(bench: Bench, models: Path) -> None:
    folded(bench, models)
    result = evaluate(
        spec(bench, {"metric": "loss", "max": "100", "of": "CrossValidation"}, max_rows=3),
        bench.context,
    )
    told = values(result.metrics)
    assert told["loss_cv_min"] <= told["loss_cv_mean"] <= told["loss_cv_max"]
    assert len(told) == 5 * 5 <= 32
    assert result.accepted


def test_rows_of_several_labels_have_folds_too(bench: Bench, models: Path) -> None:
    root = folded(bench, models)
    folder = bench.workspace / layout.dataset(bench.dataset)
    for path in folder.glob("*.parquet"):
        sets = [
            {**row, "label": json.dumps([row["label"]])} for row in pq.read_table(path).to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(sets), path)
    labels = [json.dumps([label]) for label in LABELS]
    manifest = {"shape": "classification", "labels": labels, "several": True}
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    rows = open_dataset(bench.workspace, bench.dataset).fold(0)
    question = Question(rows, LABELS, Reading(64))
    first = score_sets(ask_sets(root / "0" / "model", question, lambda _: None), question)
    result = evaluate(spec(bench), bench.context)
    record = read_record(bench.workspace / result.path)
    assert record is not None
    told = values(record.folds[0].metrics)
    assert told == {name: pytest.approx(value, abs=1e-5) for name, value in first.items()}
    assert told.keys() >= {"f1_macro", "loss"}


def test_a_fold_without_a_model_is_refused(bench: Bench, models: Path) -> None:
    shutil.rmtree(folded(bench, models) / "1")
    with pytest.raises(Refused, match="the model of fold 2 has no config"):
        evaluate(spec(bench), bench.context)


def test_a_metric_that_is_no_number_spreads_as_none() -> None:
    folds = [
        FoldRecord.model_validate({"rows": 1, "metrics": [{"name": "loss", "value": v}]})
        for v in ("1", "nan")
    ]
    assert all(value != value for value in spread(folds).values())
