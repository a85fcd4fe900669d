"""What the losses of a run say, in words: over-fitting, convergence, a plateau, divergence. Pure.

Called while a run trains, after each validation, and once at its end. Rules of thumb, each with its
measure beside it; a curve that shows none of them gets no sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["OverFitting", "Diverging", "Plateau", "Converged", "StillImproving"]
Point = tuple[int, float]  # step, loss
Lines = Sequence[dict[str, Any]]  # of history.jsonl

FEWEST = 4
"""Validations below which a curve says nothing."""
RISE = 0.02
"""Share by which the validation loss has risen above its best when it is called a rise."""
WORSE = 0.5
"""Share by which a loss stands above where it began when the run is called diverging."""
FLAT = 0.01
"""Share of the loss below which a change is none."""
LATE = 3
"""The end of a curve is its last part of so many."""


@dataclass(frozen=True)
class Reading:
    """What a curve shows."""

    kind: Kind
    sentence: str


def read(lines: Lines) -> Reading | None:
    """The most important thing that the curves show; None: nothing yet."""
    validation = [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    training = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    if len(validation) < FEWEST or len(training) < FEWEST:
        return None
    for look in (_diverging, _over_fitting, _plateau, _converged, _improving):
        if (reading := look(validation, training)) is not None:
            return reading
    return None


def _diverging(validation: list[Point], training: list[Point]) -> Reading | None:
    (first_step, first), (last_step, last) = validation[0], validation[-1]
    late = _mean(training[-_part(training) :])
    if last <= first * (1 + WORSE) or late <= _mean(training[: _part(training)]) * (1 + WORSE):
        return None
    sentence = (
        f"diverging: training and validation loss both rise, the latter from {first:.4g} at step "
        f"{first_step} to {last:.4g} at step {last_step}: a lower learning rate is needed"
    )
    return Reading("Diverging", sentence)


def _over_fitting(validation: list[Point], training: list[Point]) -> Reading | None:
    best_step, best = min(validation, key=lambda point: (point[1], point[0]))
    later = [point for point in validation if point[0] > best_step]
    # A single bad validation is noise; two and more that stay above the best are a trend.
    if len(later) < 2 or min(loss for _, loss in later[-2:]) <= best * (1 + RISE):
        return None
    before = [loss for step, loss in training if step <= best_step][-_part(training) :]
    after = [loss for step, loss in training if step > best_step][-_part(training) :]
    if not before or not after or sum(after) / len(after) >= sum(before) / len(before):
        return None
    sentence = (
        f"over-fitting since step {later[0][0]}: the validation loss rose from {best:.4g} to "
        f"{later[-1][1]:.4g} while the training loss went on falling; the best weights are of step "
        f"{best_step}"
    )
    return Reading("OverFitting", sentence)


def _plateau(validation: list[Point], training: list[Point]) -> Reading | None:
    (step, first), best = validation[0], min(loss for _, loss in validation)
    start, end = training[0][1], _mean(training[-_part(training) :])
    if first - best > FLAT * abs(first) or start - end > RISE * abs(start):
        return None
    sentence = (
        f"plateau: from step {step} to step {validation[-1][0]} the validation loss fell by less than "
        f"{FLAT:.0%} below {first:.4g} and the training loss hardly at all: the learning rate is too "
        "low, or the data teaches nothing that the model can learn"
    )
    return Reading("Plateau", sentence)


def _converged(validation: list[Point], _: list[Point]) -> Reading | None:
    late = validation[-max(2, _part(validation)) :]
    losses = [loss for _, loss in late]
    best = min(loss for _, loss in validation)
    if max(losses) - min(losses) > FLAT * abs(best) or min(losses) > best * (1 + FLAT):
        return None
    sentence = (
        f"converged: since step {late[0][0]} the validation loss has stayed within {FLAT:.0%} of "
        f"{best:.4g}; it began at {validation[0][1]:.4g}"
    )
    return Reading("Converged", sentence)


def _improving(validation: list[Point], _: list[Point]) -> Reading | None:
    (step, before), (last_step, last) = validation[-_part(validation) - 1], validation[-1]
    if last > min(loss for _, loss in validation) or before - last <= FLAT * abs(before):
        return None
    sentence = (
        f"still improving: the validation loss fell from {before:.4g} at step {step} to {last:.4g} at "
        f"step {last_step}, the last: more epochs may help"
    )
    return Reading("StillImproving", sentence)


def _part(points: Sequence[Any]) -> int:
    return max(1, len(points) // LATE)


def _mean(points: Sequence[Point]) -> float:
    return sum(loss for _, loss in points) / len(points)
