"""The folds of a cross-validation: each model measured on the rows that its training did not see.

Reads what `training.folds` left, <train stage>/folds/<n>/model, and the column `learn.fold` of the version;
the models go once the verdict is written.
"""

from __future__ import annotations

import logging
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from oikyo.api import workspace as layout
from oikyo.api.evaluation import over_folds
from oikyo.api.meta import Metric
from oikyo.api.stages import EvaluateSpec

from ..errors import Refused
from ..progress import text
from .measure import Models, Tell, measure_tuned
from .record import FoldRecord
from .rows import Dataset, choose

log = logging.getLogger("oikyo.evaluate")

Word = Literal["mean", "std", "min", "max"]
SPREAD: dict[Word, Callable[[list[float]], float]] = {
    "mean": statistics.fmean,
    "std": statistics.stdev,
    "min": min,
    "max": max,
}
"""What is told of a metric over the folds; std is that of a sample, n - 1."""


def cross_validate(
    spec: EvaluateSpec, workspace: Path, dataset: Dataset, tell: Tell
) -> tuple[FoldRecord, ...]:
    """The metrics of every fold; none without spec.evaluation.crossValidation."""
    wanted = spec.evaluation.cross_validation
    count = wanted.folds if wanted else 0
    found = []
    for fold in range(count):
        rows = choose(dataset.fold(fold), spec.evaluation.max_rows)
        folder = _model(spec, workspace, fold)
        models = Models(tuned=folder, base=workspace / layout.model(spec.model_digest))
        metrics = measure_tuned(spec, models, dataset, rows, _within(tell, fold, count))
        told = tuple(Metric(name=name, value=text(value)) for name, value in metrics.items())
        found.append(FoldRecord(rows=len(rows), metrics=told))
        log.info(
            "fold %d of %d: %s", fold + 1, count, ", ".join(f"{m.name}={m.value}" for m in told)
        )
    return tuple(found)


def _within(tell: Tell, fold: int, count: int) -> Tell:
    return lambda share: tell((fold + share) / count)


def _model(spec: EvaluateSpec, workspace: Path, fold: int) -> Path:
    folder = _folds(spec, workspace) / str(fold) / "model"
    if not (folder / "config.json").is_file():
        raise Refused(
            "ModelMissing",
            f"the model of fold {fold + 1} has no config.json",
            evidence=folder.relative_to(workspace).as_posix(),
            next_step="Apply the job under a new name: the workspace lost a model.",
        )
    return folder


def _folds(spec: EvaluateSpec, workspace: Path) -> Path:
    return workspace / layout.stage(spec.run, "train") / "folds"


def spread(folds: Sequence[FoldRecord]) -> dict[str, float]:
    """Mean, standard deviation and extremes of each metric, as <metric>_cv_mean and so on."""
    values: dict[str, list[float]] = {}
    for fold in folds:
        for metric in fold.metrics:
            values.setdefault(metric.name, []).append(float(metric.value))
    return {
        over_folds(name, word): over(found) if all(map(math.isfinite, found)) else math.nan
        for name, found in values.items()
        for word, over in SPREAD.items()
    }


def clear(spec: EvaluateSpec, workspace: Path) -> None:
    """Remove the models of the folds, which nobody needs once they are measured."""
    for folder in _folds(spec, workspace).glob("*/model"):
        shutil.rmtree(folder, ignore_errors=True)
