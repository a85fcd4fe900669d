"""Weights between the base's and the tuned ones: part of the way back to what the base knew, after the training.

base + factor * (tuned - base), as WiSE-FT (Wortsman et al. 2022) does: nothing is trained again, and the model
that is released costs no more than the tuned one. The factor is chosen on rows that steer, never on those
that judge.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..evaluation.generation import answer_losses
from ..evaluation.models import device
from ..evaluation.prompts import Encoded
from .tokenfiles import TokenRows

log = logging.getLogger("oikyo.train")

FACTORS = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Of the way from the base to the tuned weights that are tried; 1 is the tuned model."""
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Point:
    """What one factor comes to."""

    factor: float
    validation: float
    """Loss of the task's validation rows."""
    rise: float
    """Of the general loss above the base's."""


@dataclass(frozen=True)
class Steering:
    """The rows that a factor is chosen on, and the bound that it keeps to."""

    validation: TokenRows
    general: TokenRows
    bound: float
    most: int
    """Validation rows that are measured at most: the first, which are a sample."""


@dataclass(frozen=True)
class Settled:
    """The factor that was taken, and why."""

    points: tuple[Point, ...]
    taken: Point

    def sentence(self, bound: float) -> str:
        first = self.points[0]
        if self.taken.factor == first.factor:
            kept = first.rise <= bound
            why = "the tuned weights keep to the bound" if kept else "no factor keeps to the bound"
            return f"interpolation: none, {why} (general loss {first.rise:+.4g}, bound +{bound:g})"
        return (
            f"interpolation {self.taken.factor:g}: general loss {self.taken.rise:+.4g} instead of "
            f"{first.rise:+.4g}, validation loss {self.taken.validation:.4g} instead of {first.validation:.4g}"
        )


def settle(model: Any, base: Weights, steering: Steering) -> Settled:
    """Move the weights of `model` to the best factor, in place."""
    validation = encoded(steering.validation, steering.most)
    general = encoded(steering.general, len(steering.general))
    tuned = {name: value.detach().clone() for name, value in model.named_parameters()}

    def measured(factor: float, before: float) -> Point:
        _put(model, base, tuned, factor)
        return Point(factor, _loss(model, validation), _loss(model, general) - before)

    _put(model, base, tuned, 0.0)
    before = _loss(model, general)
    points = tuple(measured(factor, before) for factor in FACTORS)
    settled = Settled(points, taken(points, steering.bound))
    _put(model, base, tuned, settled.taken.factor)
    log.info("%s", settled.sentence(steering.bound))
    return settled


def taken(points: Sequence[Point], bound: float) -> Point:
    """The least validation loss among what keeps to the bound; the tuned weights where nothing does."""
    kept = [point for point in points if point.rise <= bound]
    return min(kept, key=lambda point: (point.validation, -point.factor), default=points[0])


@torch.no_grad()
def _put(model: Any, base: Weights, tuned: Weights, factor: float) -> None:
    """Set the weights; the factor 1 gives back the tuned ones to the bit."""
    for name, value in model.named_parameters():
        between = torch.lerp(base[name].float(), tuned[name].float(), factor)
        value.copy_(tuned[name] if factor == 1.0 else between)


def _loss(model: Any, rows: Sequence[Encoded]) -> float:
    model.eval().to(device())
    loss = answer_losses(model, rows, lambda share: None).mean()
    model.to("cpu")
    return loss


def encoded(rows: TokenRows, most: int) -> list[Encoded]:
    """The first rows as evaluation measures them."""
    marked = (rows.marked(row) for row in range(min(most, len(rows))))
    return [Encoded(tokens, marks, [], "", len(tokens)) for tokens, marks in marked]
