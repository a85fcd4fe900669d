"""What came out of one training: the released weights, what was measured, and what a person should know."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

from oikyo.api.meta import Metric
from oikyo.api.stages import TrainResult

from ..errors import Retry
from ..planning.road import against
from ..progress import text
from .callbacks import peak_memory_bytes
from .checkpoint import Checkpoints, Manifest
from .curve import read
from .distributed import barrier
from .forgetting import EVAL_GENERAL_LOSS, choice
from .history import History
from .interpolation import Settled, Steering
from .methods.merge import Rows
from .release import Released, release
from .running import Run
from .setting import Setting, foreseen

log = logging.getLogger("oikyo.train")


def finish(
    run: Run, setting: Setting, checkpoints: Checkpoints, newest: Manifest | None, rows: Rows
) -> TrainResult:
    """Release the best checkpoint (rank 0) and say what came out."""
    steps = max(run.trainer.state.global_step, newest.step if newest else 0)
    metrics, predicted = _metrics(run, newest), foreseen(setting, copies=run.copies)
    peak = int(metrics["peak_memory_bytes"])
    if predicted is not None:
        metrics["predicted_memory_bytes"] = float(predicted)
    early, steering = run.rhythm.stopped_early, _steering(run, setting)
    run.trainer = None  # its weights and moments would double the memory of the release
    gc.collect()
    best = path = settled = None
    if setting.world.is_first:
        best = checkpoints.best_good()
        if best is None:
            raise Retry("NoCheckpoint", "no checkpoint verifies: training starts over")
        released = _release(setting, checkpoints.path(best.step), rows, steering)
        path, settled = released.folder, released.settled
        if released.parity is not None:
            metrics["merge_logit_difference"] = released.parity.difference
        if best.eval_loss is not None:
            metrics["best_eval_loss"] = best.eval_loss
    barrier(setting.world)
    return TrainResult(
        steps=steps,
        total_steps=setting.plan.total_steps,
        best_step=best.step if best else 0,
        metrics=tuple(Metric(name=name, value=text(value)) for name, value in metrics.items()),
        resolved=(*setting.plan.resolved, *run.resolved),
        model_path=path.relative_to(setting.context.workspace).as_posix() if path else "",
        curve=reading.sentence if (reading := read(run.history.lines())) else "",
        levers=tuple(_levers(run, setting, best, settled)),
        notes=(
            *_notes(checkpoints, newest, early),
            *run.rollbacks.sentences(),
            against(predicted, peak),
        ),
    )


def _steering(run: Run, setting: Setting) -> Steering | None:
    """What the weights are taken back to the base's by; None: they stay as they were trained."""
    general = setting.general
    rows = run.trainer.eval_dataset  # of a fold, none where it holds every validation row
    if general is None or general.asked.interpolation == "Never" or rows is None:
        return None
    bound = float(general.asked.max_increase)
    return Steering(rows, general.measured, bound, general.asked.max_rows)


def _release(setting: Setting, checkpoint: Path, rows: Rows, steering: Steering | None) -> Released:
    return release(
        checkpoint,
        base=setting.base,
        head=setting.source.head,
        training=setting.spec.training,
        rows=rows,
        folder=setting.folder,
        before_commit=setting.check_attempt,
        steering=steering,
    )


def _levers(
    run: Run, setting: Setting, best: Manifest | None, settled: Settled | None
) -> Iterator[str]:
    """What was done against forgetting."""
    if setting.general is None or best is None:
        return
    if setting.replay is not None:
        yield setting.replay.sentence()
    asked, select_by = setting.general.asked, setting.spec.training.select_by
    bound = float(asked.max_increase)
    if settled is not None:
        yield settled.sentence(bound)
    else:
        yield from choice(run.history.lines(), best.step, bound, select_by)


def _metrics(run: Run, newest: Manifest | None) -> dict[str, float]:
    told = {**_last_values(run.history), **run.telling.newest}
    metrics = {"train_loss": told["loss"]} if "loss" in told else {}
    if "eval_loss" in told:
        metrics["eval_loss"] = told["eval_loss"]
    if EVAL_GENERAL_LOSS in told:
        metrics[EVAL_GENERAL_LOSS] = told[EVAL_GENERAL_LOSS]
    metrics |= run.telling.speed.overall()
    metrics["peak_memory_bytes"] = float(peak_memory_bytes())
    if run.rollbacks.done:
        metrics["rollbacks"] = float(len(run.rollbacks.done))
    metrics["resumed_from_step"] = float(newest.step if newest else 0)
    return metrics | run.telling.speed.split()


def _last_values(history: History) -> dict[str, float]:
    """The newest value of each name, for an attempt that had nothing left to train."""
    values: dict[str, float] = {}
    for line in history.lines():
        values |= line
    return values


def _notes(checkpoints: Checkpoints, newest: Manifest | None, early: str) -> Iterator[str]:
    for step, reason in sorted(checkpoints.damaged.items()):
        yield f"skipped checkpoint-{step}: {reason}"
    if newest is not None:
        yield f"resumed from step {newest.step} of attempt {newest.attempt}"
    if early:
        yield early
