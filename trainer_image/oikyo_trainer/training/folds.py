"""Which rows a training learns: sources by their weight, and of a cross-validation all folds but one.

The trainings of a cross-validation run one after another, before the one that is released. Each has a
folder of its own, <stage>/folds/<n>/, with its checkpoints while it runs, then its model and result.json,
written last: a killed stage goes on in the fold in which it was.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oikyo.api import workspace as layout
from oikyo.api.meta import Metric
from oikyo.api.stages import TrainResult, TrainSpec

from ..context import Context
from ..files import write_atomic
from .rows import Tokens

log = logging.getLogger("oikyo.train")

CHECKPOINTS = "checkpoints"


def learned(tokens: Any, lessons: Tokens, fold: int | None = None) -> Any:
    """The rows of a training, as often as an epoch shows them; without those of the fold `fold`.

    `tokens` are the rows as their objective takes them, `lessons` what was told of them.
    """
    train = _chosen(lessons.train_lessons.folds, len(tokens.train), fold)
    if (times := lessons.train_lessons.times) is not None:
        train = np.repeat(train, times[train])
    elif fold is None:
        return tokens
    chosen = {"train": tokens.train.take(train)}
    if fold is not None and tokens.validation is not None:
        rows = _chosen(lessons.validation_lessons.folds, len(tokens.validation), fold)
        chosen["validation"] = tokens.validation.take(rows) if len(rows) else None
    return replace(tokens, **chosen)


def _chosen(folds: Any, count: int, fold: int | None) -> npt.NDArray[np.int64]:
    if fold is None or folds is None:
        return np.arange(count)
    return np.flatnonzero(folds != fold)


def folder_of(stage: Path, fold: int) -> Path:
    return stage / "folds" / str(fold)


def result_of(stage: Path, fold: int) -> TrainResult | None:
    """What the training of a fold came to, when it is done."""
    try:
        return TrainResult.model_validate_json(
            (folder_of(stage, fold) / layout.RESULT).read_bytes()
        )
    except (FileNotFoundError, ValueError):
        return None


def keep(stage: Path, fold: int, result: TrainResult, check_attempt: Callable[[], None]) -> None:
    """Commit the result of a fold; its checkpoints go."""
    check_attempt()
    write_atomic(folder_of(stage, fold) / layout.RESULT, result.json_line())
    shutil.rmtree(folder_of(stage, fold) / CHECKPOINTS, ignore_errors=True)
    log.info("fold %d is trained: %d steps", fold + 1, result.steps)


def of_fold(spec: TrainSpec) -> TrainSpec:
    """The training of a fold: its adapter is not merged, since it is measured and thrown away.

    Interpolation, which needs whole weights, belongs to what is measured.
    """
    general = spec.training.general
    merge = general is not None and general.interpolation != "Never"
    return spec.model_copy(update={"training": spec.training.model_copy(update={"merge": merge})})


def part_of(context: Context, number: int, parts: int, stride: int) -> Context:
    """The context of one training of `parts`: what it tells counts on from the earlier ones.

    `stride` is the most steps that a training has, so that the steps told never fall.
    """
    context.reporter.begin_part(number, parts, stride)
    done = number * stride
    return replace(context, remember=lambda step: context.remember(done + step))


def told(results: list[TrainResult]) -> tuple[Metric, ...]:
    """Of the trainings of the folds, for the result of the stage."""
    return (Metric(name="folds_trained", value=str(len(results))),) if results else ()
